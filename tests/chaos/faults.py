"""The faults: what each does, how it is undone, and when each comes, by the seed.

A fault that may leave the outcome of a publish unknown says so (`doubles`): its worker died or stalled between
publishing and acking, or an answer was lost, or the store was away for longer than a lease may last. The others must
double nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tests.chaos.stage import LEASE, WORKERS, Stage

#: Seconds between the begins of two faults, on average.
GAP = 2.5


class Fault:
    """One fault, drawn: its parameters are the seed's.

    Attributes:
        does: in a few words.
        doubles: whether a timer may come twice by it.
        seconds: how long it may last.
        worker: which of the expiry workers, where it is done to one.
    """

    does: ClassVar[str] = ""
    doubles: ClassVar[bool] = False
    seconds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, dice: random.Random) -> None:
        self.worker = dice.randrange(WORKERS)
        self.lasts = dice.uniform(*self.seconds)

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def target(self) -> str:
        """What it is done to; no two faults at a time are done to the same."""
        raise NotImplementedError

    def begin(self, stage: Stage) -> None:
        raise NotImplementedError

    def end(self, stage: Stage) -> None:
        """Undo it; what has undone itself needs nothing."""


class _OfWorker(Fault):
    @property
    def target(self) -> str:
        return f"worker {self.worker}"


class Killed(_OfWorker):
    does = "kill -9 of a worker, started again"
    doubles = True
    seconds = (0.5, 4.0)

    def begin(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.kill()

    def end(self, stage: Stage) -> None:
        for slot in stage.workers(self.worker):
            slot.start()


class StoreKilled(Fault):
    does = "kill -9 of the Redis with the timers, started again from its AOF"
    doubles = True
    seconds = (0.5, 3.0)
    target = "store"

    def begin(self, stage: Stage) -> None:
        for server in stage.holders:
            server.kill()

    def end(self, stage: Stage) -> None:
        stage.together(lambda server: server.start(), stage.holders)


CATALOGUE: tuple[type[Fault], ...] = (Killed, StoreKilled)


@dataclass(frozen=True)
class Planned:
    """A fault and the second of the run at which it begins."""

    at: float
    fault: Fault


def plan(seed: int, seconds: float, kinds: Sequence[type[Fault]] = CATALOGUE, gap: float = GAP) -> list[Planned]:
    """What is to happen in a run, by its seed alone: every kind once before one comes again."""
    dice = random.Random(f"faults {seed}")
    planned: list[Planned] = []
    waiting: list[type[Fault]] = []
    at = dice.uniform(0.5, gap)
    while kinds and at < seconds:
        if not waiting:
            waiting = dice.sample(list(kinds), len(kinds))
        planned.append(Planned(at, waiting.pop()(dice)))
        at += dice.uniform(0.2, 2 * gap - 0.2)
    return planned

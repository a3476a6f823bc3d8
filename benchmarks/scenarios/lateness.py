"""How late a steady 100 jobs a second are, by how many others wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks import limits
from benchmarks.bench import FAILURES, Bench, Measure, Row, say
from benchmarks.figures import count
from benchmarks.filling import fill, filled, foreign_keys
from benchmarks.peers import OURS, PEERS, Peer
from benchmarks.site import Site
from benchmarks.steady import measure
from benchmarks.watch import LedgerWatch, QueueWatch

TITLE = "Lateness"
INTRO = (
    "A steady 100 a second, each due at a random moment, while others wait; ms. Ours twice: until the "
    "message is in the broker's queue, and, as all peers, until the job runs. What had not come when the "
    "patience was over counts as late as it was by then, so such a figure is *at least* that."
)
COLUMNS = {"waiting": "waiting", "arrived": "arrived", "due": "of", "p50": "p50", "p99": "p99", "max": "max"}
RATIO = ("p99", "ours-runs", "p99 ÷ ours (runs)")

Watch = type[LedgerWatch | QueueWatch]


@dataclass(frozen=True)
class Level:
    """One case: how many of the contestant's own jobs wait, how many foreign keys with a TTL lie there."""

    waiting: int
    foreign: int = 0
    who: tuple[str, ...] = ()

    @property
    def case(self) -> str:
        return f"{count(self.foreign)} foreign keys" if self.foreign else f"{count(self.waiting)} waiting"


MAIN = ("countdown", "bare", "bare-tuned")
# all but one, whose workers run their first job after ten seconds
SOON = tuple(name for name in PEERS if name != "celery-redis-plus")
QUICK = (Level(0, who=SOON), Level(2_000, who=("countdown",)))
FULL = (
    *(Level(0), Level(10_000), Level(1_000_000), Level(10_000_000, who=("none",))),
    Level(0, foreign=1_000_000, who=(*MAIN, "celery-redis-plus", "bullmq")),
)
#: Seconds for which they are due, how far ahead they are scheduled, how long the late ones are waited for.
QUICK_TIMES = {"seconds": 1.0, "lead": 0.6, "patience": 1.5}
FULL_TIMES = {"seconds": 10.0, "lead": 3.0, "patience": 40.0}


def run(bench: Bench) -> Iterator[Row]:
    for level in QUICK if bench.quick else FULL:
        if level.waiting <= bench.waiting:
            yield from _at(bench, level)


def _at(bench: Bench, level: Level) -> list[Row]:
    how = QUICK_TIMES if bench.quick else FULL_TIMES
    turns: list[tuple[Row, Measure]] = []

    def row(who: str, title: str, kind: str = "peer") -> Row:
        return bench.row(who, title, level.case, kind, x=level.foreign or level.waiting)

    with ExitStack() as stack:
        for peer in (OURS, *bench.others(*level.who)):
            ways: list[tuple[Row, tuple[str, ...], Watch]] = [(row(peer.name, peer.title), (), LedgerWatch)]
            if peer is OURS:
                ways = [
                    (row("ours-queue", f"{peer.title}: {QueueWatch.what}", "ours"), ("expiry",), QueueWatch),
                    (row("ours-runs", f"{peer.title}: {LedgerWatch.what}", "ours"), (), LedgerWatch),
                ]
            try:
                stage = stack.enter_context(_stage(bench, peer, level))
                turns += [(one, partial(_turn, stage, roles, watch, how)) for one, roles, watch in ways]
            except FAILURES as exc:
                turns += [(one | {"note": str(exc)[:200]}, dict) for one, _, _ in ways]
        if not level.waiting and not level.foreign:
            stage = stack.enter_context(bench.site(OURS))
            client = stack.enter_context(stage.store.client())
            sleeper = row("limit-sleep", "limit: sleep, then LPUSH", "limit")
            turns.append((sleeper, partial(limits.sleeper, stage.place, how["seconds"], how["lead"])))
            sender = row("limit-send", "limit: sleep, then `apply_async`, until the job runs", "limit")
            turns.append((sender, partial(_send, stage, how)))
            ping = row("limit-ping", "limit: a round trip", "limit")
            turns.append((ping, partial(limits.round_trip, client)))
        return bench.take_turns(turns, 1 if bench.quick else None)


def _turn(stage: Site, roles: tuple[str, ...], watch: Watch, how: Mapping[str, float]) -> Mapping[str, float]:
    with stage.working(roles, watch):
        return {**measure(stage, watch, **how), "waiting": stage.waiting}


def _send(stage: Site, how: Mapping[str, float]) -> Mapping[str, float]:
    with stage.working():
        return limits.sender(stage.place, how["seconds"], how["lead"])


@contextmanager
def _stage(bench: Bench, peer: Peer, level: Level) -> Iterator[Site]:
    """A contestant whose Redis is filled."""
    dump = filled(bench, level.waiting) if peer is OURS else None
    with bench.site(peer, dump) as stage:
        if dump is None:
            if level.waiting:
                say(f"  {level.case} · {peer.title}: filling")
            # ours is always filled as far as it says: its goals are about these numbers
            fill(bench, stage, level.waiting, budget=3_600 if peer is OURS else None)
        else:
            stage.waiting = level.waiting
        foreign_keys(stage.store, level.foreign)
        yield stage

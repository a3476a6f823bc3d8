"""A web app that is asked to schedule, and what its event loop was held up by meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from benchmarks.figures import percentile
from tests.servers.asgi import ASGIServer

#: How many ask at the same time.
CLIENTS = 50


@dataclass
class Asked:
    """What was seen while requests of one kind were answered; seconds.

    Attributes:
        steps, used: the longest step of the loop in each window, by the clock and by its CPU.
        collected: the longest run of the garbage collector in each, part of some step.
        late: what the loop was late by, each time it looked at the clock.
    """

    requests: int = 0
    seconds: float = 0.0
    steps: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    collected: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def add(self, other: Asked) -> None:
        self.requests += other.requests
        self.seconds += other.seconds
        self.steps += other.steps
        self.used += other.used
        self.collected += other.collected
        self.late += other.late

    def figures(self) -> Mapping[str, float]:
        """In ms."""
        return {
            **{"requests": self.requests, "rate": self.requests / self.seconds},
            **_three("step", self.steps),
            **_three("cpu", self.used),
            **_three("collector", self.collected),
            **_three("late", self.late),
        }


def _three(name: str, seconds: list[float]) -> Mapping[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {f"{name}_{each}": 1000 * percentile(seconds, share) for each, share in shares.items()}


class Web:
    """The app of `tests/apps/asgi_app.py`, its timers in the Redis at a URL."""

    def __init__(self, url: str, folder: Path) -> None:
        config = {"main": "bench", "broker": url, "backend": url, "ledger": url}
        self._server = ASGIServer(config, folder)
        self._asked = 0

    def __enter__(self) -> Web:
        self._server.wait_ready(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.process.kill()

    def freeze(self) -> None:
        """What is there now is no more business of its garbage collector."""
        self._server.ask("POST /freeze")

    def ask(self, kind: str, requests: int) -> Asked:
        """So many requests of a kind (see the app's routes), each of another name."""
        first, self._asked = self._asked, self._asked + requests
        self._server.ask("POST /lags", "POST /steps")
        began = time.perf_counter()
        names = range(first, first + requests)
        self._server.ask(*(f"POST /{kind}/{name}" for name in names), clients=CLIENTS)
        seconds = time.perf_counter() - began
        late, steps = self._server.ask("POST /lags", "POST /steps")
        return Asked(requests, seconds, *(list(each) for each in zip(*steps, strict=True)), late)

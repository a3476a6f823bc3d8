"""Ours with one, two and four expiry workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measure, Row
from benchmarks.bursting import Burst
from benchmarks.peers import OURS
from benchmarks.site import Site
from benchmarks.steady import measure
from benchmarks.watch import QueueDepth, QueueWatch

TITLE = "Several expiry workers"
INTRO = (
    "Store and broker in one Redis database. A burst until the last is in the queue, and how late a steady "
    "100 a second are, ms; `twice` counts messages that came more than once. All workers share this "
    "machine's cores."
)
COLUMNS = {"count": "burst", "rate": "a second", "p50": "p50", "p99": "p99", "max": "max", "twice": "twice"}
RATIO = None
CASE = "one Redis database"


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    with ExitStack() as stack:
        for number in (2,) if bench.quick else (1, 2, 4):
            stage = stack.enter_context(bench.site(OURS))
            row = bench.row(f"ours-{number}", f"{number} expiry workers", CASE, "ours", x=number)
            roles = tuple(f"expiry{index}" for index in range(number))
            turns.append((row, partial(fire, bench, stage, roles, Burst(stage, size(bench), 60, runs=False))))
        yield from bench.take_turns(turns, 1 if bench.quick else None)


def size(bench: Bench) -> int:
    return 1_000 if bench.quick else 50_000


def fire(bench: Bench, stage: Site, roles: tuple[str, ...], burst: Burst) -> Mapping[str, float]:
    """A burst, then a steady stream, by the same workers."""
    seconds, lead = (1.0, 0.6) if bench.quick else (10.0, 3.0)
    with stage.working(roles, QueueDepth):
        fired = burst.measure()
        steady = measure(stage, QueueWatch, seconds=seconds, lead=lead, patience=5 if bench.quick else 30)
    return {**steady, **fired}

"""Ours with its timers in a Redis Cluster, of one and of three primaries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.bench import Bench, Measure, Row
from benchmarks.bursting import Burst
from benchmarks.peers import OURS
from benchmarks.scenarios.workers import fire, size
from benchmarks.site import Site, site
from tests.servers.cluster import RedisCluster

TITLE = "Redis Cluster"
INTRO = (
    "Timers in a Cluster of so many primaries, each with a replica; the broker is a Redis of its own. As "
    "above. All nodes share this machine's cores, so more primaries are no faster here."
)
COLUMNS = {"count": "burst", "rate": "a second", "p50": "p50", "p99": "p99", "max": "max", "twice": "twice"}
RATIO = None
CASE = "broker apart"


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    with ExitStack() as stack:
        for primaries in (3,) if bench.quick else (1, 3):
            stage = stack.enter_context(_stage(bench, primaries))
            row = bench.row(f"ours-{primaries}", f"{primaries} primaries", CASE, "ours", x=primaries)
            burst = Burst(stage, size(bench), 60, runs=False)
            turns.append((row, partial(fire, bench, stage, ("expiry",), burst)))
        yield from bench.take_turns(turns, 1 if bench.quick else None)


@contextmanager
def _stage(bench: Bench, primaries: int) -> Iterator[Site]:
    cluster = RedisCluster(bench.binary, bench.version, primaries=primaries)
    try:
        cluster.start()
        with (
            bench.server() as broker,
            site(OURS, broker, url=cluster.url(), broker=broker.url(), conf=bench.conf_of(OURS)) as stage,
        ):
            yield stage
    finally:
        cluster.remove()

"""Redis's work for one timer, by how many wait: log n at most."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measure, Row
from benchmarks.bursting import is_script
from benchmarks.client import PeerFailed
from benchmarks.figures import count
from benchmarks.filling import fill, filled
from benchmarks.peers import OURS
from benchmarks.site import Site
from benchmarks.steady import lateness, moments
from benchmarks.watch import QueueWatch, wait
from tests.servers.redis import RedisServer

TITLE = "Growth"
INTRO = (
    "Microseconds of Redis's time that our scripts take for one timer (`INFO commandstats`): to schedule it "
    "alone, and to fire it, of a steady 100 a second, all calls that this takes included; and what the "
    "caller waits for one `schedule_on_expiry`, ms."
)
COLUMNS = {
    **{"schedule_us": "schedule, µs of Redis", "fire_us": "fire, µs of Redis", "call_ms": "a call, ms"},
    "p99": "lateness p99, ms",
}
RATIO = None
LEVELS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    with ExitStack() as stack:
        for level in LEVELS[:2] if bench.quick else LEVELS:
            if level > bench.waiting:
                break
            row = bench.row("ours", OURS.title, f"{count(level)} waiting", "ours", x=level)
            try:
                dump = filled(bench, level)
            except PeerFailed as exc:
                row["note"] = str(exc)
                yield row
                continue
            stage = stack.enter_context(bench.site(OURS, dump))
            if dump is None:
                fill(bench, stage, level)
            stage.waiting = level
            turns.append((row, partial(_measure, bench, stage)))
        yield from bench.take_turns(turns, 1 if bench.quick else None)


def _measure(bench: Bench, stage: Site) -> Mapping[str, float]:
    calls, seconds = (200, 1.0) if bench.quick else (1_000, 10.0)
    before = _scripts(stage.store)
    begun = time.perf_counter()
    stage.client.fill(calls, 60, way="one")
    took = time.perf_counter() - begun
    scheduled = _scripts(stage.store) - before
    with stage.working(("expiry",), QueueWatch), QueueWatch(stage.place) as seen:
        steady = moments(seconds, lead=1.0 if bench.quick else 3.0)
        stage.client.schedule(steady)
        before = _scripts(stage.store)
        wait(lambda: seen.count() >= len(steady), steady[-1][1] / 1000 + 20)
        fired = _scripts(stage.store) - before
        late = lateness(steady, seen.times())
    return {
        **{"schedule_us": scheduled / calls, "fire_us": fired / max(1, late["arrived"])},
        **{"call_ms": took / calls * 1000, "p99": late["p99"]},
    }


def _scripts(store: RedisServer) -> float:
    """Microseconds that scripts have had of this server."""
    with store.client() as client:
        stats = client.info("commandstats")
    return sum(each["usec"] for name, each in stats.items() if is_script(name.removeprefix("cmdstat_")))

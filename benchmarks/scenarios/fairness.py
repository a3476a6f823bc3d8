"""How late a steady 100 jobs a second are while a burst drains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measure, Row
from benchmarks.bursting import Burst
from benchmarks.figures import count as written
from benchmarks.peers import OURS
from benchmarks.site import Site
from benchmarks.steady import lateness, moments
from benchmarks.watch import LedgerWatch, QueueDepth, QueueWatch, wait

TITLE = "Fairness"
INTRO = (
    "A steady 100 a second, from the instant on in which a burst falls due: how late they are, ms, of those "
    "due until the burst's last has come. Ours until the message is in the broker's queue (the steady ones "
    "have one of their own), peers until the job runs."
)
COLUMNS = {
    "burst": "burst",
    "drained": "drained in, s",
    "due": "steady",
    "p50": "p50",
    "p99": "p99",
    "max": "max",
}
RATIO = None
QUICK_PEERS = ("countdown",)
STEADY = "steady"


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    size = 2_000 if bench.quick else 100_000
    with ExitStack() as stack:
        broker = stack.enter_context(bench.server()).url()
        for case, url in (("one Redis database", None), ("two Redis servers", broker)):
            stage = stack.enter_context(bench.site(OURS, broker=url))
            turns.append((bench.row("ours", OURS.title, case, "ours"), partial(_ours, stage, size)))
        for peer in bench.others(*(QUICK_PEERS if bench.quick else ())):
            stage = stack.enter_context(bench.site(peer))
            few = min(size, 500 if bench.quick else 10_000)
            row = bench.row(peer.name, peer.title, f"a burst of {written(few)}, until the job runs")
            turns.append((row, partial(_peers, stage, few)))
        yield from bench.take_turns(turns, 1 if bench.quick else None)


def _ours(stage: Site, size: int) -> Mapping[str, float]:
    burst = Burst(stage, size, 60, runs=False)
    with stage.working(("expiry",), QueueDepth), QueueDepth(stage.place) as queue:
        queue.clear()
        due = burst.schedule()
        with QueueWatch(stage.place, STEADY) as seen:
            steady = _schedule(stage, due, seconds=10 if size > 50_000 else 3, queue=STEADY)
            wait(lambda: queue.count() >= size, due / 1000 + 60, every=0.005)
            measured = _drained(seen, steady, due)
        queue.clear()
    return {**measured, "burst": size}


def _peers(stage: Site, size: int) -> Mapping[str, float]:
    burst = Burst(stage, size, 60, runs=True)
    with stage.working(), LedgerWatch(stage.place) as seen:
        due = burst.schedule()
        steady = _schedule(stage, due, seconds=10)
        wait(lambda: seen.count() >= size, due / 1000 + 60)
        return {**_drained(seen, steady, due), "burst": size}


def _drained(
    seen: LedgerWatch | QueueWatch, steady: Sequence[tuple[str, int]], due: int
) -> Mapping[str, float]:
    """How late those were that fell due until now, when the last of the burst has come."""
    drained = time.time() * 1000
    meant = [item for item in steady if item[1] <= drained]
    labels = {label for label, _ in meant}
    wait(lambda: labels <= seen.times().keys(), drained / 1000 + 10, every=0.2)
    return {**lateness(meant, seen.times()), "drained": (drained - due) / 1000}


def _schedule(stage: Site, due: int, seconds: float, **how: str) -> list[tuple[str, int]]:
    """The steady stream, from the burst's moment on."""
    # of the last round some may still come
    items = moments(seconds, due / 1000 - time.time(), f"{STEADY}{due}-")
    stage.client.schedule(items, **how)
    return [item for item in items if item[1] > time.time() * 1000]

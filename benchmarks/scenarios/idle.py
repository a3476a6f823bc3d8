"""What a worker costs that has nothing to do, beside a stock Celery worker in the same minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks.bench import FAILURES, Bench, Row, say
from benchmarks.figures import count
from benchmarks.filling import fill, filled
from benchmarks.peers import COUNTDOWN, OURS, Peer
from benchmarks.processes import cpu
from benchmarks.site import Site
from benchmarks.watch import LedgerWatch, QueueWatch

TITLE = "Idle"
INTRO = (
    "Nothing is due. Redis commands a second, and CPU in percent of a core (the worker's and all its "
    "children's), over the same seconds for ours and for a stock Celery worker with the same options but "
    "`-P solo`, each with a Redis of its own in which the same timers wait; then for each peer."
)
COLUMNS = {"commands": "Redis commands/s", "cpu": "CPU, % of a core", "seconds": "over, s"}
RATIO = None
STOCK = "stock"
#: Seconds after its start in which a worker is not idle yet.
CALM = 4.0


def run(bench: Bench) -> Iterator[Row]:
    levels = (0, 1_000) if bench.quick else (0, 100_000)
    with ExitStack() as stack:
        watched: list[tuple[Row, Any]] = []
        for level in levels:
            dump = filled(bench, level)
            case = f"{count(level)} waiting"
            for peer, who, title, roles in (
                (OURS, "ours", "expiry worker", ("expiry",)),
                (COUNTDOWN, STOCK, "stock worker, `-P solo`", ("solo",)),
            ):
                row = bench.row(who, title, case, "ours" if peer is OURS else "peer")
                stage = stack.enter_context(bench.site(peer, dump))
                if dump is None and level:
                    fill_with_timers(bench, stage, level)
                watch = QueueWatch if peer is OURS else LedgerWatch
                watched.append((row, (stage, stack.enter_context(stage.working(roles, watch)))))
        yield from _watch(bench, watched)
    if bench.quick:
        return
    for peer in bench.others():
        yield from _peer(bench, peer)


def fill_with_timers(bench: Bench, stage: Site, level: int) -> None:
    """Timers of ours, whoever's the stage is: what waits must be the same for both."""
    if stage.peer is OURS:
        fill(bench, stage, level)
        return
    with bench.site(OURS) as other:
        fill(bench, other, level)
        with other.store.raw_client() as source, stage.store.raw_client() as target:
            for key in source.scan_iter(count=1_000):
                target.restore(key, max(0, source.pttl(key)), source.dump(key))


def _peer(bench: Bench, peer: Peer) -> list[Row]:
    row = bench.row(peer.name, peer.title, "a peer, 0 waiting")
    try:
        with bench.site(peer) as stage, stage.working() as processes:
            return _watch(bench, [(row, (stage, processes))])
    except FAILURES as exc:
        row["note"] = str(exc)[:200]
        return [row]


def _watch(bench: Bench, watched: list[tuple[Row, Any]]) -> list[Row]:
    """All of them over the same seconds, so that what disturbs one disturbs the others."""
    seconds = 3.0 if bench.quick else 60.0
    time.sleep(CALM)
    for number in range(1 if bench.quick else bench.rounds):
        say(f"  idle for {seconds:.0f} s ({number + 1})")
        before = [_spent(stage, processes) for _, (stage, processes) in watched]
        time.sleep(seconds)
        after = [_spent(stage, processes) for _, (stage, processes) in watched]
        for (row, _), (commands, used), (later, more) in zip(watched, before, after, strict=True):
            # the INFO that told the first number is no part of it
            figures = {"commands": (later - commands - 1) / seconds, "cpu": 100 * (more - used) / seconds}
            row["rounds"].append({**figures, "seconds": seconds})
    return [row for row, _ in watched]


def _spent(stage: Site, processes: Any) -> tuple[int, float]:
    with redis.Redis(port=stage.store.port, protocol=2) as client:
        # a new connection says what it is, which counts as well
        client.ping()
        commands = int(client.info("stats")["total_commands_processed"])
    return commands, sum(cpu(process.pid) for process in processes)

"""What one that waits costs: bytes in Redis, and bytes of the workers' resident memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks.bench import Bench, Row, say
from benchmarks.client import PeerFailed
from benchmarks.filling import GUESS, fill
from benchmarks.peers import OURS, Peer
from benchmarks.processes import available, resident
from benchmarks.site import Site
from benchmarks.watch import LedgerWatch, wait

TITLE = "Memory"
INTRO = (
    "A job with two small arguments that waits for days: bytes in Redis (all in: keys, index, allocator), "
    "and bytes by which the workers' resident memory grew. Both are differences between few and many "
    "waiting, with the workers up all the while; from *few* to as many as a peer can schedule within its "
    "time."
)
COLUMNS = {
    **{"few": "few", "many": "many", "redis": "Redis, bytes each", "workers": "workers, bytes each"},
    "grown": "workers grew by, MiB",
}
RATIO = ("redis", "ours", "Redis ÷ ours")
CASE = "waiting"
QUICK_PEERS = ("countdown", "bullmq")


def run(bench: Bench) -> Iterator[Row]:
    few, many = (200, 2_000) if bench.quick else (10_000, 1_000_000)
    many = min(many, bench.waiting)
    for peer in (OURS, *bench.others(*(QUICK_PEERS if bench.quick else ()))):
        if peer.name == "bare-tuned":  # stores what the other one stores
            continue
        row = bench.row(peer.name, peer.title, CASE, "ours" if peer is OURS else "peer")
        # once: a million of anything takes a while, and bytes do not vary as times do
        yield from bench.take_turns([(row, partial(_measure, bench, peer, few, many))], 1)


def _measure(bench: Bench, peer: Peer, few: int, many: int) -> Mapping[str, float | None]:
    if available() < 2 * many * GUESS:
        raise PeerFailed("too little memory here")
    with bench.site(peer) as stage, stage.working() as processes:
        fill(bench, stage, few)
        _taken(stage, 20 if bench.quick else 300)
        before = _used(stage), sum(resident(process.pid) for process in processes)
        say(f"  {peer.title}: filling")
        added = fill(bench, stage, many - few, budget=3_600 if peer is OURS else None)
        _taken(stage, 20 if bench.quick else 300)
        after = _used(stage), sum(resident(process.pid) for process in processes)
        stage.waiting = 0  # nobody needs them any more
    # what lies in RabbitMQ is not counted
    in_broker = stage.place.broker.startswith("amqp")
    redis, grown = after[0] - before[0], after[1] - before[1]
    return {
        **{
            "few": few,
            "many": few + added,
            "redis": None if in_broker else redis / added,
            "workers": max(0, grown) / added,
        },
        "grown": grown / 2**20,
    }


def _taken(stage: Site, patience: float) -> None:
    """Until the workers have taken what lies in a queue, where that is their way."""
    with LedgerWatch(stage.place) as seen:
        stage.client.enqueue("ready")
        if not wait(lambda: seen.count() > 0, time.time() + patience):
            raise PeerFailed("its workers did not get to the end of what waits")


def _used(stage: Site) -> int:
    with stage.store.client() as client:
        client.execute_command("MEMORY", "PURGE")
        return int(client.info("memory")["used_memory"])

"""Users' own keys among many others: until the message is in the queue, beside a bare subscriber."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from functools import partial

import redis

from benchmarks.bench import Bench, Measure, Row
from benchmarks.figures import count as written
from benchmarks.filling import foreign_keys
from benchmarks.peers import OURS, PEERS
from benchmarks.processes import cpu
from benchmarks.site import Site
from benchmarks.steady import lateness
from benchmarks.watch import LedgerWatch, QueueWatch, wait

TITLE = "Users' own keys"
INTRO = (
    "Sessions with random TTLs that end within the same seconds, among other keys with a TTL; ms. Ours "
    "(`on_key_expired`) until the message is in the queue, a bare subscriber until its callback is called. "
    "What a watched key costs: bytes in Redis, and ms of the expiry worker's CPU for its setting and expiry "
    "together, and for each further `EXPIRE`."
)
COLUMNS = {
    **{"due": "keys", "arrived": "told of", "twice": "twice", "p50": "p50", "p99": "p99", "max": "max"},
    **{"bytes": "bytes", "cpu": "CPU, ms", "expire": "an EXPIRE, ms"},
}
RATIO = None
PATTERN = "session:*"
#: Seconds before the first of them is due: to set them all takes a while.
LEAD = 2.0


def run(bench: Bench) -> Iterator[Row]:
    keys, foreign, seconds, patience = (
        (300, 10_000, 1.0, 1.0) if bench.quick else (10_000, 100_000, 30.0, 60.0)
    )
    case = f"{written(foreign)} other keys"
    how = {"keys": keys, "foreign": foreign, "seconds": seconds, "patience": patience}
    turns: list[tuple[Row, Measure]] = [
        (bench.row("ours", "`on_key_expired`", case, "ours"), partial(_ours, bench, how)),
    ]
    if "bare" in bench.peers:
        turns.append((bench.row("bare", "bare `PSUBSCRIBE`", case), partial(_bare, bench, how)))
    yield from bench.take_turns(turns, 1 if bench.quick else None)


def _ours(bench: Bench, how: Mapping[str, float]) -> Mapping[str, float]:
    with bench.server() as store:
        foreign_keys(store, int(how["foreign"]))
        with (
            bench.site_on(store, OURS, watch=PATTERN) as stage,
            stage.working(("expiry",), QueueWatch) as processes,
        ):
            log = stage.log("expiry")
            wait(lambda: "listening for keys" in log.read_text(), time.time() + 60)
            spent = cpu(processes[0].pid)
            with QueueWatch(stage.place) as seen, store.client() as client:
                due = _set_keys(client, "session:", how)
                bytes = _ledger_bytes(client)
                measured = _collect(stage, seen, due, how["patience"])
                used = cpu(processes[0].pid) - spent
                extended = _extend(client, processes[0].pid, 10 * len(due))
    return {**measured, "bytes": bytes, "cpu": used / len(due) * 1000, "expire": extended}


def _bare(bench: Bench, how: Mapping[str, float]) -> Mapping[str, float]:
    with bench.site(PEERS["bare"]) as stage:
        foreign_keys(stage.store, int(how["foreign"]))
        with stage.working(), LedgerWatch(stage.place) as seen, stage.store.client() as client:
            due = _set_keys(client, "bare:", how)
            return _collect(
                stage, seen, [(key.removeprefix("bare:"), at) for key, at in due], how["patience"]
            )


def _set_keys(client: redis.Redis, prefix: str, how: Mapping[str, float]) -> list[tuple[str, int]]:
    """Keys with a random TTL, and when each is due."""
    due = []
    for number in range(int(how["keys"])):
        milliseconds = int((LEAD + random.random() * how["seconds"]) * 1000)
        due.append((f"{prefix}{number}", int(time.time() * 1000) + milliseconds))
        client.set(due[-1][0], "x", px=milliseconds)
    return due


def _collect(
    stage: Site, seen: LedgerWatch | QueueWatch, due: list[tuple[str, int]], patience: float
) -> Mapping[str, float]:
    wait(lambda: seen.count() >= len(due), max(at for _, at in due) / 1000 + patience)
    time.sleep(0.5)  # what came twice would come about now
    return lateness(due, seen.times())


def _ledger_bytes(client: redis.Redis) -> float:
    [ledger] = client.scan_iter("*watched:*", count=10_000)
    return float(client.memory_usage(ledger, samples=0) or 0) / client.zcard(ledger)


def _extend(client: redis.Redis, pid: int, times: int) -> float:
    """Milliseconds of the worker's CPU for one EXPIRE of a watched key."""
    client.set("session:extended", "x", ex=600)
    before = cpu(pid)
    pipe = client.pipeline(transaction=False)
    for _ in range(times):
        pipe.expire("session:extended", 600)
    pipe.execute()
    time.sleep(1.0)
    return (cpu(pid) - before) / times * 1000

"""What Redis and this machine could do at best: the round trip, the bare LPUSH, the bare claim script."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from benchmarks.app import build
from benchmarks.figures import percentile
from benchmarks.peers.base import SECOND
from benchmarks.place import Place
from benchmarks.steady import lateness, moments
from benchmarks.watch import LedgerWatch, QueueWatch, wait

#: As many as the package's own batches hold.
BATCH = 500
#: What any claim must do at least: find what is due, take it out of the index, put its message into a queue.
CLAIM = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due == 0 then return 0 end
redis.call('ZREM', KEYS[1], unpack(due))
local messages = redis.call('HMGET', KEYS[2], unpack(due))
redis.call('HDEL', KEYS[2], unpack(due))
redis.call('LPUSH', KEYS[3], unpack(messages))
return #due
"""


def round_trip(client: redis.Redis, count: int = 2_000) -> Mapping[str, float]:
    """PING and its answer, ms."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        client.ping()
        took.append((time.perf_counter() - started) * 1000)
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99), "max": max(took)}


def sleeper(place: Place, seconds: float, lead: float) -> Mapping[str, float]:
    """A thread that knows every moment by heart, sleeps until it and pushes: nothing is durable."""
    with redis.Redis.from_url(place.broker) as client:
        return _asleep(
            lambda label: client.lpush(place.queue, message(label)), QueueWatch(place), seconds, lead
        )


def sender(place: Place, seconds: float, lead: float) -> Mapping[str, float]:
    """The same with `apply_async`, until an ordinary worker, which must be up, runs the job."""
    task = build(place).tasks["bench.record"]
    return _asleep(
        lambda label: task.apply_async((label, SECOND), queue=place.queue), LedgerWatch(place), seconds, lead
    )


def _asleep(
    send: Callable[[str], object], watch: QueueWatch | LedgerWatch, seconds: float, lead: float
) -> Mapping[str, float]:
    with watch as seen:
        send("first")  # it connects
        items = moments(seconds, lead, "limit")

        def send_all() -> None:
            for label, due in items:
                time.sleep(max(0.0, due / 1000 - time.time()))
                send(label)

        thread = threading.Thread(target=send_all)
        thread.start()
        wait(lambda: seen.count() > len(items), items[-1][1] / 1000 + 5)
        thread.join(5)
        return lateness(items, seen.times())


def push_rate(client: redis.Redis, message: bytes | str, count: int) -> Mapping[str, float]:
    """Messages a second of these bytes, by pipelined LPUSH."""
    started = time.perf_counter()
    pipe = client.pipeline(transaction=False)
    for begin in range(0, count, BATCH):
        for _ in range(min(BATCH, count - begin)):
            pipe.lpush("limit", message)
        pipe.execute()
    took = time.perf_counter() - started
    client.delete("limit")
    return {"rate": count / took}


def claim_rate(client: redis.Redis, message: bytes | str, count: int) -> Mapping[str, float]:
    """Messages a second of these bytes, claimed and pushed by the shortest script that does so."""
    claim: Any = client.register_script(CLAIM)
    for begin in range(0, count, BATCH):
        members = [f"m{index}" for index in range(begin, min(count, begin + BATCH))]
        pipe = client.pipeline(transaction=False)
        pipe.zadd("limit:due", dict.fromkeys(members, 1))
        pipe.hset("limit:timers", mapping=dict.fromkeys(members, message))
        pipe.execute()
    started = time.perf_counter()
    while claim(keys=["limit:due", "limit:timers", "limit:queue"], args=[2, BATCH]):
        pass
    took = time.perf_counter() - started
    client.delete("limit:due", "limit:timers", "limit:queue")
    return {"rate": count / took}


def message(label: str) -> str:
    """A Celery message of the usual size, as kombu lays it into a Redis queue."""
    body = base64.b64encode(json.dumps([[label, 7], {}, {}]).encode()).decode()
    return json.dumps({"body": body, "headers": {"id": label, "task": "bench.record"}, "filler": "x" * 500})

"""What every round of garbage has: timers beside it that must fire, once each, and then peace."""

from __future__ import annotations

import json

import redis

from celery_redis_expiry import schedule_many_on_expiry
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually

SANE = 20


def forget(site: Site, raw: redis.Redis) -> None:
    """What the last round left, but for the worker's own."""
    for key in raw.scan_iter(count=1000):
        if not key.endswith((b"pacers", b"namespace")) and not key.startswith(b"_kombu"):
            raw.delete(key)


def schedule_sane(site: Site) -> set[str]:
    """Timers that nobody damages, into a queue of their own; answers their task ids."""
    results: list[str] = []
    signatures = [site.record(number).set(queue="sane") for number in range(SANE)]
    schedule_many_on_expiry(
        [(signature, 0.3 + number / 40) for number, signature in enumerate(signatures)],
        on_result=lambda _, result: results.append(result.id),
        app=site.app,
    )
    return set(results)


def fired(site: Site) -> list[str]:
    """The task ids of the sane ones in the broker."""
    return [json.loads(message)["headers"]["id"] for message in site.redis.lrange("sane", 0, -1)]


def settled(site: Site, worker: Worker) -> None:
    """Until nothing is due or claimed."""

    def pending() -> list[bytes]:
        with site.server.raw_client() as raw:
            # what was claimed and given back is due again soon
            due = raw.zrangebyscore(site.key("due"), "-inf", round(site.now() * 1000) + 10_000)
            return [*due, *raw.zrange(site.key("claimed"), 0, -1)]

    eventually(lambda: not pending(), what=lambda: f"nothing pending: {pending()}\n{worker.process.tail()}")

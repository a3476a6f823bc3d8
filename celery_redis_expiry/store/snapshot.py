"""The figures of a moment, counted by Redis: what it costs does not grow with the number of timers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from celery_redis_expiry.store.operators import soonest
from celery_redis_expiry.store.overview import wakings
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.store import Store
from celery_redis_expiry.timer import Timer

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment.

    Attributes:
        now: on Redis's clock, ms.
        waiting, parked, claimed, dead: how many there are; those that are due wait, too.
        due: how many were due by now, and have not been claimed.
        ahead: how many fall due in each of the next minutes.
        workers: the expiry workers, and in how many seconds each wakes.
        next: the timers that are due first.
    """

    now: int
    waiting: int
    parked: int
    claimed: int
    dead: int
    due: int
    ahead: list[int]
    workers: dict[str, float]
    next: list[Timer]


def snapshot(store: Store, *, minutes: int = 0, first: int = 0) -> Snapshot:
    """Count.

    Arguments:
        minutes: how many minutes ahead are counted, each for itself.
        first: how many timers are read.

    Raises:
        StoreUnavailable: Redis can't be reached or refuses.
    """
    shards, now = store.shards, store.now()
    with store.link.translated():
        pipe = store.link.client.pipeline(transaction=False)
        for shard in shards:
            k = shard.keys
            for key in (k.due, k.parked, k.claimed, k.dead):
                pipe.zcard(key)
            # a key lives until now > due
            pipe.zcount(k.due, "-inf", f"({now}")
            for minute in range(minutes):
                pipe.zcount(k.due, now + minute * MINUTE_MS, f"({now + (minute + 1) * MINUTE_MS}")
            pipe.zrevrange(k.pacers, 0, -1, withscores=True)
            pipe.zrange(k.due, 0, max(0, first - 1), withscores=True)
        answers = pipe.execute()
    width = len(answers) // len(shards)
    *counted, pacers, heads = zip(
        *(answers[i : i + width] for i in range(0, len(answers), width)), strict=True
    )
    waiting, parked, claimed, dead, due, *ahead = map(sum, counted)
    workers = soonest(wakings(each, now) for each in pacers)
    return Snapshot(now, waiting, parked, claimed, dead, due, ahead, workers, _timers(shards, heads, first))


def _timers(shards: list[Shard], heads: Sequence[Any], first: int) -> list[Timer]:
    """Of the first rows of each shard, the first of all."""
    rows = (
        (score, shard.number, place)
        for shard, head in zip(shards, heads, strict=True)
        for place, score in head
    )
    return [
        timer
        for score, number, place in nsmallest(first, rows)
        for _, timer in shards[number].timers_of(shards[number].rows([(place, score)]), "waiting")
    ]

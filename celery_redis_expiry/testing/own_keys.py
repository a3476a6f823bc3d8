"""The users' own keys in memory, whose expiry timers and handlers wait for: `watch=` and `on_key_expired`.

In memory only: no test moves the clock of a real Redis, so keys there expire by it.
"""

from __future__ import annotations

from typing import Any

from celery_redis_expiry.connections import locate_watched
from celery_redis_expiry.store import Shard, Store
from celery_redis_expiry.testing.moving import ProcessClock
from celery_redis_expiry.timer import LATEST, Request, Stored
from celery_redis_expiry.watching import handlers_of
from celery_redis_expiry.worker.watching.deliveries import Gone, deliveries
from celery_redis_expiry.worker.watching.source import Source
from celery_redis_expiry.worker.watching.watch import Watch, watches_of


class OwnKeys:
    """Keys that somebody is to be told of."""

    def __init__(self, app: Any, store: Store) -> None:
        self._app = app
        self._store = store
        location = locate_watched(app)
        self._source = Source(location) if location.memory is not None else None
        self._known: dict[bytes, int] = {}

    def next_due(self, now: int) -> int:
        """When the first of them expires, ms; LATEST where none does.

        Arguments:
            now: ms since the epoch.
        """
        self._known = self._dues(now)
        return min(self._known.values(), default=LATEST)

    def expire(self, due: int, process: ProcessClock) -> None:
        """Let those expire that `next_due` has found due then, and make due what waits for them."""
        gone = {key: each for key, each in self._known.items() if each <= due}
        assert self._source is not None
        told = []
        for watch in self._watches():
            matching = [key for key in self._matching(watch) if key in gone]
            values = self._source.snapshots(matching, process.now()) if watch.with_value else {}
            told.append((watch, [Gone(key, "expired", gone[key], values.get(key)) for key in matching]))
        process.move_to(due)
        self._store.link.client.delete(*gone)
        for watch, events in told:
            for delivery in deliveries(self._app, watch, events):
                self._store.schedule([_at(process.now(), stored) for stored in delivery.timers])
        for shard, keys in self._waiting():
            shard.fall_due([member for member, key in keys.items() if key in gone])

    def _dues(self, now: int) -> dict[bytes, int]:
        """When each of them expires that has a TTL, ms."""
        if self._source is None:
            return {}
        keys = {key for _, waiting in self._waiting() for key in waiting.values()}
        keys.update(key for watch in self._watches() for key in self._matching(watch))
        ordered = sorted(keys)
        ttls = self._source.ttls(ordered) if ordered else []
        return {
            key: now + ttl for key, ttl in zip(ordered, ttls, strict=True) if ttl is not None and ttl >= 0
        }

    def _waiting(self) -> list[tuple[Shard, dict[str, bytes]]]:
        """The timers of each shard that wait for a key, and that key."""
        found = []
        for shard in self._store.shards:
            members = shard.key_timers()
            keys = shard.watched_keys(members) if members else {}
            found.append((shard, {member: key for member, (key, _) in keys.items()}))
        return found

    def _watches(self) -> list[Watch]:
        """What handlers watch here, of keys; fields of hashes are not looked at."""
        if self._source is None or not handlers_of(self._app):
            return []
        here = self._source.location
        return [each for each in watches_of(self._app) if each.field is None and each.location == here]

    def _matching(self, watch: Watch) -> list[bytes]:
        assert self._source is not None
        assert watch.pattern is not None
        pages = self._source.matching(watch.pattern)
        return [key for page in pages for key in page if b"{expiry." not in key]


def _at(due: int, stored: Stored) -> Request:
    return Request(stored, f"={due}", "replace", None, stored.id)

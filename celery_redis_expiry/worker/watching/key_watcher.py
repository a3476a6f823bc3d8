"""The watcher of those keys that timers wait for, one channel each: `schedule_on_expiry(…, watch="cart:42")`.

Everything is as with a pattern, but what is told: a key that expired makes its timers due.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Delivery, Store
from celery_redis_expiry.worker.watching.deliveries import Gone
from celery_redis_expiry.worker.watching.digest import BLUR, Digest
from celery_redis_expiry.worker.watching.ledger import PAGE
from celery_redis_expiry.worker.watching.stream import Stream
from celery_redis_expiry.worker.watching.watch import Watch
from celery_redis_expiry.worker.watching.watcher import Watcher

#: Seconds between two looks at the index, for timers that nobody was heard to tell of.
EVERY = 60.0

Place = tuple[int, str]


class KeyTimers:
    """Which timers wait for which key, as (shard, member).

    Attributes:
        fresh: those whose key was listened to before they were known, each with a mark and with what was its
            key's due time then (ms): an event that comes before the mark may be older than the timer.
        passed: whether a mark has passed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[bytes, dict[Place, None]] = {}
        self._places: dict[Place, bytes] = {}
        self.fresh: dict[Place, tuple[str, int | None]] = {}
        self.passed: Callable[[str], bool] = lambda mark: True

    @property
    def keys(self) -> list[bytes]:
        """Every key that some timer waits for."""
        return list(self._keys)

    def of(self, key: bytes) -> list[Place]:
        """The timers that wait for this key."""
        return list(self._keys.get(key, ()))

    def add(self, shard: int, members: Sequence[str]) -> dict[Place, tuple[bytes, int | None]]:
        """Learn of timers; returns the new ones, each with its key, and when that was due, ms."""
        new = [member for member in members if (shard, member) not in self._places]
        found = self._store.shards[shard].watched_keys(new)
        for member, (key, _) in found.items():
            self._places[shard, member] = key
            self._keys.setdefault(key, {})[shard, member] = None
        return {(shard, member): what for member, what in found.items()}

    def forget(self, places: Sequence[Place]) -> list[bytes]:
        """Forget timers; returns the keys that none waits for any more."""
        free = []
        for place in places:
            self.fresh.pop(place, None)
            key = self._places.pop(place, None)
            if key is None:
                continue
            self._keys[key].pop(place)
            if not self._keys[key]:
                del self._keys[key]
                free.append(key)
        return free

    def fall_due(self, places: Sequence[Place]) -> None:
        """Make these timers due."""
        for shard in {shard for shard, _ in places}:
            self._store.shards[shard].fall_due([member for number, member in places if number == shard])

    def may_be_newer(self, place: Place, now: int) -> bool:
        """Whether this timer may be of a key that was there after the one whose expiry is read now.

        Arguments:
            now: ms on Redis's clock, not less.
        """
        mark, due = self.fresh.get(place, ("", None))
        if mark and self.passed(mark):
            del self.fresh[place]
            mark = ""
        # where the key that it was scheduled for has had its time, it is that key's expiry
        return bool(mark) and (due is None or due > now)

    def gone(self, shard: int, members: Sequence[str]) -> list[Place]:
        """Those known of a shard that are not among these any more: cancelled, replaced, moved, fired."""
        there = set(members)
        return [place for place in self._places if place[0] == shard and place[1] not in there]


class _KeyDigest(Digest):
    """A key that expired makes its timers due."""

    timers: KeyTimers

    def tell(self, gone: Sequence[Gone]) -> None:
        for each in gone:
            if each.event == "expired":
                self.timers.fall_due(self._meant(each.key))
        if gone:
            self._ledger.deliver(Delivery(new_token(), [each.key for each in gone], []))

    def _meant(self, key: bytes) -> list[Place]:
        places = self.timers.of(key)
        newer = {place for place in places if self.timers.may_be_newer(place, self._ledger.latest())}
        # what expired may be older than these timers: not if the key is gone
        if newer and self._source.ttls([key])[0] != -2:
            places = [place for place in places if place not in newer]
        return places


class KeyWatcher(Watcher):
    """See `Watcher`; what it knows of timers it reads from the due index when it begins to lead."""

    def __init__(self, app: Any, store: Store, watch: Watch, *, configure: bool, limit: int) -> None:
        self._store = store
        self._timers = KeyTimers(store)
        self._told: queue.SimpleQueue[Place] = queue.SimpleQueue()
        self._again = 0.0
        self._leading = False
        super().__init__(app, store, watch, configure=configure, limit=limit)

    def _new_digest(self, app: Any, own: bytes) -> Digest:
        digest = _KeyDigest(app, self._watch, self._source, self._ledger, None, own)
        digest.timers = self._timers
        return digest

    def hear(self, shard: int, member: str) -> None:
        """A timer that waits for a key was scheduled. Called by another thread."""
        # who does not lead reads of all of them when it does
        if self._leading:
            self._told.put((shard, member))
            self.interrupt()

    def _enter(self) -> Stream:
        self._leading = True
        self._timers = self._digest.timers = KeyTimers(self._store)  # type: ignore[attr-defined]
        return super()._enter()

    def _leave(self) -> None:
        self._leading = False
        super()._leave()

    def _catch_up(self, stream: Stream) -> None:
        self._ledger.agenda()
        self._timers.passed = stream.passed
        self._read_index(stream)
        super()._catch_up(stream)

    def _every_key(self) -> Iterator[list[bytes]]:
        keys = self._timers.keys
        return iter([keys[start : start + PAGE] for start in range(0, len(keys), PAGE)])

    def _listen(self, stream: Stream) -> None:
        while not self._told.empty():
            shard, member = self._told.get()
            self._learn(shard, [member], stream)
        if time.monotonic() > self._again:
            self._read_index(stream)
        super()._listen(stream)

    def _read_index(self, stream: Stream) -> None:
        self._again = time.monotonic() + EVERY
        for shard in self._store.shards:
            members = shard.key_timers()
            stream.drop(self._timers.forget(self._timers.gone(shard.number, members)))
            for start in range(0, len(members), PAGE):
                self._learn(shard.number, members[start : start + PAGE], stream)

    def _learn(self, shard: int, members: Sequence[str], stream: Stream) -> None:
        """Listen to what these wait for, then look whether it is there still."""
        new = self._timers.add(shard, members)
        if not new:
            return
        keys = list({key for key, _ in new.values()})
        stream.add(keys)
        mark = stream.mark()
        for place, (key, due) in new.items():
            # of a key that nobody listened to until now every event is newer than the timer
            if any(other not in new for other in self._timers.of(key)):
                self._timers.fresh[place] = mark, due
        ttls = dict(zip(keys, self._source.ttls(keys), strict=True))
        self._digest.note(list(ttls.items()), {})
        # gone before anybody listened: it has expired, if it has had its time
        known = self._ledger.known(keys)
        now = self._ledger.now() + BLUR
        late = [
            place
            for place, (key, due) in new.items()
            if ttls[key] == -2 and due is not None and due <= now and known[key][0] is None
        ]
        self._timers.fall_due(late)

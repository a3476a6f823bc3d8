"""The watcher of fields of hashes (`HEXPIRE`, Redis 7.4 or later).

An event says that some field of a key has expired, and not which. The ledger knows which were due, and one
command which of these are gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis import exceptions as redis_errors

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Note
from celery_redis_expiry.worker.watching.deliveries import Gone, name_of, parts_of
from celery_redis_expiry.worker.watching.digest import BLUR, GONE, Digest
from celery_redis_expiry.worker.watching.reader import Heard
from celery_redis_expiry.worker.watching.source import COUNT, Source
from celery_redis_expiry.worker.watching.stream import Stream
from celery_redis_expiry.worker.watching.watcher import Watcher

logger = logging.getLogger(__name__)


class _FieldSource(Source):
    """Asks for fields by their names in the ledger."""

    #: When `ttls` asked last, on the monotonic clock: a TTL counts from then on, or later.
    asked = 0.0

    def ttls(self, keys: Sequence[bytes]) -> list[int | None]:
        self.asked = time.monotonic()
        with self._link.translated():
            pipe = self._client.pipeline(transaction=False)
            for key, field in map(parts_of, keys):
                # makes Redis delete what has expired, and tell of it; HPTTL does not
                pipe.hexists(key, field)
                pipe.execute_command("HPTTL", key, "FIELDS", 1, field)
            answers = pipe.execute(raise_on_error=False)
        return [_ttl(*answers[i : i + 2]) for i in range(0, len(answers), 2)]

    def fields(self, key: bytes, pattern: bytes) -> list[bytes]:
        """The fields of a key that match."""
        found: list[bytes] = []
        cursor = 0
        with self._link.translated():
            while True:
                try:
                    cursor, page = self._client.hscan(key, cursor, match=pattern, count=COUNT)
                except redis_errors.ResponseError as exc:
                    if "WRONGTYPE" in str(exc):
                        return []
                    raise
                found += page
                if not cursor:
                    return found

    def can(self) -> bool:
        """Whether the server knows of fields that expire."""
        with self._link.translated():
            try:
                self._client.execute_command("HPTTL", "no such key", "FIELDS", 1, "field")
            except redis_errors.ResponseError as exc:
                if "unknown command" in str(exc).lower():
                    return False
                raise
        return True


def _ttl(there: Any, ttl: Any) -> int | None:
    """What HEXISTS and HPTTL say of a field: as PTTL of a key."""
    for answer in (there, ttl):
        if isinstance(answer, Exception):
            # a key that became another type has no fields
            return -2 if "WRONGTYPE" in str(answer) else None
    return int(ttl[0]) if ttl else -2


class _Due(NamedTuple):
    """When a field is due, ms on Redis's clock, as far as answers tell that took their time: not before
    `earliest`, nor after `latest`."""

    earliest: int
    latest: int


class _FieldDigest(Digest):
    """What the events of hashes mean for their fields."""

    _source: _FieldSource

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.known: dict[bytes, dict[bytes, _Due]] = {}

    def digest(self, heard: Sequence[Heard]) -> list[bytes]:
        gone: list[Gone] = []
        changed: dict[bytes, bool] = {}
        forgotten: list[bytes] = []
        for event in heard:
            if event.key.startswith(self._own):
                continue
            self.heard = True
            if event.kind == "hexpired":
                gone += self._expired(event.key, changed)
            elif event.kind in GONE:
                # with the key its fields are gone, which have not expired
                forgotten += [name_of(event.key, field) for field in self.known.pop(event.key, ())]
            else:
                changed[event.key] = True
        self.tell(gone)
        self._ledger.note([Note(name, None) for name in forgotten])
        self.look(changed)
        return [each.name for each in gone] + forgotten

    def _expired(self, key: bytes, changed: dict[bytes, bool]) -> list[Gone]:
        """The fields that were due and are gone; or are there again, if nothing else was heard of it."""
        now = self._ledger.latest()
        due = {field: at for field, at in self.known.get(key, {}).items() if at.earliest <= now}
        ttls = self._source.ttls([name_of(key, field) for field in due])
        then = self._ledger.earliest(self._source.asked)
        told = [
            Gone(key, "expired", at.earliest, missed=at.earliest < self.since - BLUR, field=field)
            for (field, at), ttl in zip(due.items(), ttls, strict=True)
            # one that goes on until it was due has not expired: its own event is still to come
            if ttl == -2 or (key not in changed and (ttl is None or ttl < 0 or then + ttl > at.latest))
        ]
        for each in told:
            self.known[key].pop(each.field or b"")
        changed[key] = True
        return told

    def _gone(self, name: bytes, event: str, due: int, value: bytes | None) -> Gone:
        key, field = parts_of(name)
        self.known.get(key, {}).pop(field, None)
        return Gone(key, event, due, missed=True, certain=False, field=field)

    def look(self, keys: Mapping[bytes, bool]) -> None:
        pattern = self._watch.field or b"*"
        for key in keys:
            if key.startswith(self._own):
                continue
            there = self._source.fields(key, pattern)
            # one that is gone, and was not due, was deleted; of one that was due an event is still to come
            late = self._ledger.latest()
            known = self.known.get(key, {})
            lost = [field for field, at in known.items() if field not in set(there) and at.earliest > late]
            names = [name_of(key, field) for field in there]
            found = list(zip(names, self._source.ttls(names), strict=True))
            self.note([*found, *((name_of(key, field), -1) for field in lost)], {})

    def note(self, found: Iterable[tuple[bytes, int | None]], changed: Mapping[bytes, bool]) -> None:
        found = list(found)
        # never later than it is: of what expires before its time, as it is known here, nobody would be told
        then, now = self._ledger.earliest(self._source.asked), self._ledger.latest()
        for name, ttl in found:
            key, field = parts_of(name)
            if ttl is not None and ttl >= 0:
                self.known.setdefault(key, {})[field] = _Due(then + ttl, now + ttl)
            elif ttl == -1:
                self.known.get(key, {}).pop(field, None)
        super().note(found, changed)


class FieldWatcher(Watcher):
    """See `Watcher`."""

    def _new_source(self) -> Source:
        return _FieldSource(self._watch.location)

    def _new_digest(self, app: Any, own: bytes) -> Digest:
        return _FieldDigest(app, self._watch, self._source, self._ledger, None, own)

    def _enter(self) -> Stream:
        assert isinstance(self._source, _FieldSource)
        if not self._source.can():
            logger.error(
                "expiry: fields of keys %s in %s can't be watched: HEXPIRE needs Redis 7.4 or later",
                self._shown,
                self._watch.location.url,
                extra=log_fields("watch_unable"),
            )
            self.stopping.set()
        return super()._enter()

    def _catch_up(self, stream: Stream) -> None:
        assert isinstance(self._digest, _FieldDigest)
        self._digest.known = {}
        for page in self._ledger.pages():
            for name, due in page:
                key, field = parts_of(name)
                self._digest.known.setdefault(key, {})[field] = _Due(due, due)
        super()._catch_up(stream)

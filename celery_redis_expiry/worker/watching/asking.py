"""What no event tells: keys that are due, those that went while nobody listened, those that are not known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from celery_redis_expiry.worker.watching.digest import Digest
from celery_redis_expiry.worker.watching.ledger import Ledger
from celery_redis_expiry.worker.watching.snapshots import Snapshots
from celery_redis_expiry.worker.watching.source import Source
from celery_redis_expiry.worker.watching.stream import Stream

#: Seconds until keys whose slot is on the move are asked for again.
AGAIN = 1.0


class Asking:
    """Asks Redis for keys, some at a time, so that events are acted upon meanwhile.

    To ask for a key whose time has come makes Redis delete it and tell of it. So it is known when the mark
    has passed which comes after the question: a key that was gone, and of which no event told, went before.
    """

    def __init__(self, source: Source, ledger: Ledger, digest: Digest, snapshots: Snapshots | None) -> None:
        self._source = source
        self._ledger = ledger
        self._digest = digest
        self._snapshots = snapshots
        self._pending: dict[bytes, int] = {}
        self._mark = ""
        self._known: Iterator[list[tuple[bytes, int]]] | None = None
        self._found: Iterator[list[bytes]] | None = None

    def begin(self, every_key: Iterator[list[bytes]]) -> None:
        """Catch up: what the ledger holds, then what it does not know."""
        self._pending, self._mark = {}, ""
        self._known = self._ledger.pages()
        self._found = every_key

    @property
    def catching_up(self) -> bool:
        """Whether what happened while nobody listened is not all known yet."""
        return self._known is not None or self._found is not None

    @property
    def waits(self) -> bool:
        """Whether a mark must pass before the next question."""
        return bool(self._mark)

    def told(self, names: Sequence[bytes]) -> None:
        """Of these an event has told."""
        for name in names if self._pending else ():
            self._pending.pop(name, None)

    def concluded(self, stream: Stream) -> dict[bytes, int]:
        """Keys that are gone although no event has told of it, each with its due time (ms)."""
        if not self._mark or not stream.passed(self._mark):
            return {}
        gone, self._pending, self._mark = self._pending, {}, ""
        return gone

    def go_on(self, stream: Stream) -> bool:
        """The next question, those for what is due first; returns whether it was the last of catching up."""
        if time.monotonic() >= self._ledger.wake:
            rows = self._ledger.agenda()
            if rows:
                self._ask(rows, stream)
                return False
        if self._snapshots is not None and time.monotonic() >= self._snapshots.wake:
            self._digest.look(dict.fromkeys(self._snapshots.move_on(), False))
        if self._known is not None:
            page = next(self._known, None)
            if page is None:
                self._known = None
            else:
                self._ask(page, stream)
        elif self._found is not None:
            keys = next(self._found, None)
            if keys is None:
                self._found = None
                return True
            self._digest.look(dict.fromkeys(keys, True))
        return False

    def _ask(self, rows: Sequence[tuple[bytes, int]], stream: Stream) -> None:
        ttls = self._source.ttls([key for key, _ in rows])
        self._pending = {key: due for (key, due), ttl in zip(rows, ttls, strict=True) if ttl == -2}
        self._digest.note(((key, ttl) for (key, _), ttl in zip(rows, ttls, strict=True)), {})
        if self._pending:
            self._mark = stream.mark()
        if None in ttls:
            self._ledger.wake_at(time.monotonic() + AGAIN)

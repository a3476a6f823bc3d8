"""When to take snapshots of values: shortly before their keys are due, and again when they change later."""

from __future__ import annotations

import time
from collections.abc import Sequence

from celery_redis_expiry.worker.watching.ledger import CAP, Ledger
from celery_redis_expiry.worker.watching.source import Source

#: Seconds before its due time in which a key's value is taken at the latest; the other half is for taking
#: many at once.
AHEAD = 10.0
#: How many keys are read at once.
LIMIT = 500


class Snapshots:
    """Everything that is due until a certain time has its snapshot; from time to time that moves on.

    Attributes:
        wake: when to move on, on the monotonic clock.
    """

    def __init__(self, source: Source, ledger: Ledger) -> None:
        self._source = source
        self._ledger = ledger
        self._until = 0
        self.wake = 0.0

    def begin(self) -> None:
        """Forget what was read: values may have changed while nobody listened."""
        self._until, self.wake = 0, 0.0

    def move_on(self) -> list[bytes]:
        """Further keys that want a snapshot from now on."""
        self._until, keys, pause = self._ledger.ahead(self._until, AHEAD, LIMIT)
        self.wake = time.monotonic() + min(CAP, max(0.0, CAP if pause is None else pause - AHEAD / 2))
        return keys

    def noted(self, ttl: int) -> None:
        """A key that expires in so many ms: its turn may come earlier than that of the others."""
        self.wake = min(self.wake, time.monotonic() + max(0.0, ttl / 1000 - AHEAD / 2))

    def wants(self, ttl: int) -> bool:
        """Whether a key that expires in so many ms has to have its snapshot by now."""
        return self._ledger.now() + ttl <= self._until

    def take(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Snapshots of the values of these keys, as far as they can be had."""
        return self._source.snapshots(keys, self._ledger.now()) if keys else {}

"""The timers that wait for a user's own key to expire, and not for a time.

They lie in the due index at the latest time there is, so that all that can be done to a timer can be done to
them: cancelled, replaced, moved to a time, counted, exported.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery_redis_expiry.keys import text
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import LATEST, Stored, Undecodable

#: How many are read or changed in one call.
MANY = 500


class KeyTimers(ShardBase):
    def key_timers(self) -> list[str]:
        """The members of all of them."""
        with self._translated():
            return [text(member) for member in self._client.zrangebyscore(self.keys.due, LATEST, LATEST)]

    def watched_keys(self, members: Sequence[str]) -> dict[str, tuple[bytes, int | None]]:
        """Which key each of these waits for, and when that was due when the timer was scheduled, ms."""
        found = {}
        for start in range(0, len(members), MANY):
            page = members[start : start + MANY]
            with self._translated():
                records = self._client.hmget(self.keys.timers, page)
            for member, record in zip(page, records, strict=True):
                try:
                    watch = Stored.decode(record or b"").content["watch"]
                    found[member] = str(watch["key"]).encode(errors="surrogateescape"), watch["due"]
                except (Undecodable, LookupError, TypeError):
                    # gone by now, damaged, or a timer of the year 9999
                    continue
        return found

    def fall_due(self, members: Sequence[str]) -> int:
        """Make them due; returns how many were waiting still."""
        k = self.keys
        fallen = 0
        for start in range(0, len(members), MANY):
            page = members[start : start + MANY]
            with self._translated():
                fallen += self._scripts.fall_due(
                    keys=[k.due, k.pacers, *map(k.trigger, page)], args=[LATEST, k.wake, *page]
                )
        return fallen

"""The recurring timers that `celery expiry sync-beat` keeps: which they are, and another message for one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from celery_redis_expiry.keys import handle, place, text
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import Stored, Undecodable

#: Who keeps such timers, see `Plan`.
OWNER = "beat"


@dataclass(frozen=True)
class Kept:
    """A timer as it lies in Redis.

    Attributes:
        member: see `keys`.
        stored: what its record says, or why that can't be told.
        seen: the SHA1 of that.
    """

    member: str
    stored: Stored | Undecodable = field(repr=False)
    seen: str

    @property
    def owner(self) -> str:
        """Who keeps it, see `Plan`; "" for a timer that is no recurring one."""
        recurring = None if isinstance(self.stored, Undecodable) else self.stored.recurring
        return "" if recurring is None else recurring.plan.owner


class BeatTimers(ShardBase):
    def kept_as(self, member: str) -> Kept | None:
        """The timer of this member; None where there is none any more."""
        with self._translated():
            record = self._client.hget(self.keys.timers, place(member))
            if record is None:
                return None
            [stored] = self._decoded([(member, record)])
        return Kept(member, stored, hashlib.sha1(record, usedforsecurity=False).hexdigest())

    def revise(self, kept: Kept, stored: Stored) -> bool:
        """Give a recurring timer another message; False if it was changed meanwhile."""
        with self._translated():
            return bool(
                self._scripts.revise(
                    keys=[self.keys.timers], args=[handle(kept.member), kept.seen, stored.encode()]
                )
            )

    # -- of the first shard: the names of all

    def beat_names(self) -> set[str]:
        """The names of the timers that were made of `beat_schedule`; some may be gone."""
        with self._translated():
            return set(map(text, self._client.hkeys(self.keys.beat)))

    def add_beat_name(self, name: str) -> None:
        """Before its timer is made: what is made, and not known, would never be removed."""
        with self._translated():
            self._client.hset(self.keys.beat, name, "")

    def remove_beat_name(self, name: str) -> None:
        """After its timer is gone."""
        with self._translated():
            self._client.hdel(self.keys.beat, name)

"""What an operator asks of the store: who fires timers, and what should have fired. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from celery_redis_expiry.keys import place, text
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import Stored, Undecodable


def wakings(pacers: Iterable[tuple[bytes, float]], now: int) -> dict[str, float]:
    """Node names, and in how many seconds each wakes, of what they announced, the last to wake first."""
    workers: dict[str, float] = {}
    for pacer, wake in pacers:
        # of one that was killed and started again, the last to wake is the one that lives
        workers.setdefault(text(pacer).rpartition(":")[0], (wake - now) / 1000)
    return workers


class Overview(ShardBase):
    def announced(self) -> dict[str, float]:
        """The expiry workers by node name, and in how many seconds each wakes; below 0, it should have."""
        with self._translated():
            pacers = self._client.zrevrange(self.keys.pacers, 0, -1, withscores=True)
            return wakings(pacers, self.now())

    def kept(self, member: str) -> tuple[Stored | Undecodable, int, str, float | None]:
        """What is stored of a timer or dead letter, its size in bytes, its claim, the end of its lease."""
        k, at = self.keys, place(member)
        with self._translated():
            pipe = self.server().pipeline(transaction=False)
            pipe.hmget(k.timers, [at])
            pipe.hmget(k.claims, [at])
            pipe.zscore(k.claimed, at)
            [record], [claim], lease_end = pipe.execute()
            [stored] = self._decoded([(member, record or b"")])
        return stored, len(record or b""), text(claim or b""), lease_end

    def size(self) -> int:
        """How many timers and dead letters lie here."""
        k = self.keys
        with self._translated():
            return sum(int(self._client.zcard(key)) for key in (k.due, k.parked, k.dead))

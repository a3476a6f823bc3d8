"""What an operator asks of the store: who fires timers, and what should have fired. It changes nothing."""

from __future__ import annotations

from celery_redis_expiry.keys import text
from celery_redis_expiry.store.base import ShardBase


class Overview(ShardBase):
    def announced(self) -> dict[str, float]:
        """The expiry workers by node name, and in how many seconds each wakes; below 0, it should have."""
        with self._translated():
            pacers = self._client.zrevrange(self.keys.pacers, 0, -1, withscores=True)
            now = self.now()
        workers: dict[str, float] = {}
        for pacer, wake in pacers:
            # of one that was killed and started again, the last to wake is the one that lives
            workers.setdefault(text(pacer).rpartition(":")[0], (wake - now) / 1000)
        return workers

    def size(self) -> int:
        """How many timers and dead letters lie here."""
        k = self.keys
        with self._translated():
            return sum(int(self._client.zcard(key)) for key in (k.due, k.parked, k.dead))

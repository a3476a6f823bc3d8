"""What an operator asks of the store: who fires timers, and what should have fired. It changes nothing."""

from __future__ import annotations

from celery_redis_expiry.keys import text
from celery_redis_expiry.store.base import ShardBase


class Overview(ShardBase):
    def announced(self) -> dict[str, float]:
        """The expiry workers by node name, and in how many seconds each wakes; below 0, it should have."""
        with self._translated():
            pacers = self._client.zrevrange(self.keys.pacers, 0, -1, withscores=True)
            now = self._now()
        workers: dict[str, float] = {}
        for pacer, wake in pacers:
            # of one that was killed and started again, the last to wake is the one that lives
            workers.setdefault(text(pacer).rpartition(":")[0], (wake - now) / 1000)
        return workers

    def overdue(self, seconds: float) -> tuple[int, float]:
        """How many timers were due more than `seconds` ago, and how long ago the oldest of them was."""
        return self._beyond(self.keys.due, seconds)

    def abandoned(self, seconds: float) -> tuple[int, float]:
        """How many claims outlive their lease by more than `seconds`, and by how much the oldest."""
        return self._beyond(self.keys.claimed, seconds)

    def _beyond(self, index: str, seconds: float) -> tuple[int, float]:
        with self._translated():
            now = self._now()
            limit = now - seconds * 1000
            count = self._client.zcount(index, "-inf", limit)
            oldest = self._client.zrangebyscore(index, "-inf", limit, start=0, num=1, withscores=True)
        return count, (now - oldest[0][1]) / 1000 if oldest else 0.0

    def size(self) -> int:
        """How many timers and dead letters lie here."""
        k = self.keys
        with self._translated():
            return sum(int(self._client.zcard(key)) for key in (k.due, k.parked, k.dead))

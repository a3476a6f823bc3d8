"""Templates that no stored message has any more: found a part at a time, and forgotten.

A process's templates name it (`origin`), so each that starts and schedules brings its own.
"""

from __future__ import annotations

from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import ref_of

#: How many stored messages are looked at in one round trip.
PAGE = 500
#: How many templates are forgotten by one script.
MANY = 100


class Pruning(ShardBase):
    def unused(self, age: float, limit: int) -> set[bytes]:
        """Names of templates by which no message was stored for so long; one may wait all the same.

        Arguments:
            age: seconds.
            limit: how many at most.
        """
        with self._translated():
            before = self.now() - int(age * 1000)
            return set(self._client.zrangebyscore(self.keys.used, "-inf", before, start=0, num=limit))

    def templates_of(self, cursor: int) -> tuple[int, set[bytes]]:
        """The templates that some of the stored messages have, and the cursor of the next; 0 for the end.

        What is stored throughout, from cursor 0 to the end, is seen; what moves meanwhile is used later.
        """
        with self._translated():
            cursor, records = self._client.hscan(self.keys.timers, cursor, count=PAGE)
        return int(cursor), {ref for ref in map(ref_of, records.values()) if ref is not None}

    def prune(self, refs: set[bytes], before: int) -> int:
        """Forget templates; returns how many.

        Arguments:
            before: ms on Redis's clock; one that was used later is left.
        """
        names, pruned = sorted(refs), 0
        for start in range(0, len(names), MANY):
            with self._translated():
                pruned += int(
                    self._scripts.prune(
                        keys=[self.keys.templates, self.keys.used],
                        args=[before, *names[start : start + MANY]],
                    )
                )
        return pruned

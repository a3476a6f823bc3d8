"""The timers of a shard in order, page by page: any number of them, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from celery_redis_expiry.keys import text
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import Timer, as_ms

Row = tuple[str, float]


class Listing(ShardBase):
    def waiting(self, low: int | None, high: int | None, page: int) -> Iterator[Timer]:
        """The timers that wait, soonest first.

        Arguments:
            low, high: due times as the index has them, ms since the epoch, both included; None for no bound.
            page: how many are read in one round trip.
        """
        for rows in self._pages(self.keys.due, low, high, page):
            yield from self._timers(rows, "waiting")

    def parked(self, page: int) -> Iterator[Timer]:
        """The timers whose trigger key has no TTL, in no order."""
        for rows in self._pages(self.keys.parked, None, None, page):
            yield from self._timers(rows, "parked")

    def being_published(self, page: int) -> Iterator[Timer]:
        """The timers that are claimed, the lease that ends first first."""
        for rows in self._pages(self.keys.claimed, None, None, page):
            with self._translated():
                claims = self._client.hmget(self.keys.claims, [member for member, _ in rows])
            dues = [(claim or b"").split(b":")[1:2] for claim in claims]
            claimed = [
                (member, float(due[0])) if due and due[0].isdigit() else (member, lease_end)
                for (member, lease_end), due in zip(rows, dues, strict=True)
            ]
            yield from self._timers(claimed, "claimed")

    def _pages(self, index: str, low: int | None, high: int | None, page: int) -> Iterator[list[Row]]:
        """Pages by score, not by rank: what fires meanwhile would shift the ranks of all that follow.

        Of those that share the score a page ends with, the last read are read again: as many may go meanwhile
        without another being passed over.
        """
        start: str | float = "-inf" if low is None else low
        end = "+inf" if high is None else high
        seen = 0  # how many were read of the score that the next page starts with
        recent: list[bytes] = []  # the last of these
        while True:
            again = len(recent)
            with self._translated():
                rows = self._client.zrangebyscore(
                    index, start, end, start=max(0, seen - again), num=page + again, withscores=True
                )
            fresh = [(member, score) for member, score in rows if member not in recent]
            if fresh:
                yield [(text(member), score) for member, score in fresh]
                last = fresh[-1][1]
                ties = [member for member, score in fresh if score == last]
                seen, recent = (seen, recent) if last == start else (0, [])
                seen, recent, start = seen + len(ties), [*recent, *ties][-page:], last
            if len(rows) < page + again:
                return

    def _timers(self, rows: Sequence[Row], state: str) -> Iterator[Timer]:
        k = self.keys
        with self._translated():
            # without a script, which would hold Redis up for a page of large messages
            pipe = self.server().pipeline(transaction=False)
            pipe.time()
            pipe.hmget(k.timers, [member for member, _ in rows])
            for member, _ in rows:
                pipe.pttl(k.trigger(member))
            (seconds, micros), records, *ttls = pipe.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        for (member, score), record, ttl in zip(rows, records, ttls, strict=True):
            # one that fired or was cancelled since its page was read has no message any more
            if record is None:
                continue
            if state == "claimed":
                ttl = -2
            else:
                # somebody may have taken the TTL away, or given one, since the index was told
                state = "parked" if ttl == -1 else "waiting"
            yield self._timer(member, state, as_ms(score), int(ttl), now, record)

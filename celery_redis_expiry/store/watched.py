"""The ledger of users' own keys: when each expires, who delivers for them, and what was delivered.

It lies with the timers, so that it outlives every worker, and in the first shard, since a timer for what
expired is stored in the same script in which the key is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import member
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.timer import Stored, as_ms

#: How many keys one page of the ledger holds, about.
PAGE = 500


class NotLeading(StoreUnavailable):
    """Another worker delivers for this watch by now; nothing was done."""


class Agenda(NamedTuple):
    """What is due, or will be soon.

    Attributes:
        now: on Redis's clock, ms.
        next: when the first key after these is due, ms; None if there is none.
        rows: (key, due) in order.
    """

    now: int
    next: int | None
    rows: list[tuple[bytes, int]]


class Note(NamedTuple):
    """What is written down of a key that will expire.

    Attributes:
        ttl: in how many ms it expires; None for a key that will not.
        value: snapshot of its value; b"" where the one that is known is outdated; None to leave it as it is.
    """

    key: bytes
    ttl: int | None
    value: bytes | None = None


class Delivery(NamedTuple):
    """What is stored at once, and repeated under the same token after a lost reply.

    Attributes:
        token: of this delivery.
        gone: the keys to be forgotten.
        timers: what is stored of each timer, due at once.
    """

    token: str
    gone: list[bytes]
    timers: list[Stored]


class Watched(ShardBase):
    def lead(self, watch: str, token: str, lease: float) -> str:
        """Become or stay the one that delivers for a watch, for `lease` seconds; 0 to cease.

        Returns:
            `led` (it was and is this one's), `taken` (it is now), `ceased`, or `other`.
        """
        with self._translated():
            answer = self._scripts.lead(keys=[self.keys.leader(watch)], args=[token, int(lease * 1000)])
        return str(answer.decode())

    def note(self, watch: str, token: str, notes: Sequence[Note], limit: int) -> tuple[int, int]:
        """Write down when keys expire.

        Arguments:
            limit: how many keys the ledger may hold.

        Returns:
            How many it holds, and how many of these found no place.

        Raises:
            NotLeading: nothing was written.
        """
        args: list[Any] = [token, limit]
        for each in notes:
            value = b"" if each.value is None else b"=" + each.value if each.value else b"-"
            args += [each.key, "" if each.ttl is None else each.ttl, value]
        k = self.keys
        with self._translated():
            answer = self._scripts.note(keys=[k.leader(watch), k.watched(watch), k.values(watch)], args=args)
        if not answer:
            raise NotLeading(f"another worker watches {watch} by now")
        return int(answer[1]), int(answer[2])

    def agenda(self, watch: str, *, limit: int, ahead: float = 0.0, since: int | None = None) -> Agenda:
        """What is due, and what will be within `ahead` seconds; what is due until `since` is left out."""
        with self._translated():
            now, next_due, rows = self._scripts.agenda(
                keys=[self.keys.watched(watch)],
                args=["-inf" if since is None else since, int(ahead * 1000), limit],
            )
        pairs = [(rows[i], as_ms(rows[i + 1])) for i in range(0, len(rows), 2)]
        return Agenda(int(now), as_ms(next_due) if next_due else None, pairs)

    def known(self, watch: str, keys: Sequence[bytes]) -> list[tuple[int | None, bytes | None]]:
        """When each of these keys is due, ms, and the snapshot of its value, as far as they are known."""
        with self._translated():
            pipe = self.server().pipeline(transaction=False)
            for key in keys:
                pipe.zscore(self.keys.watched(watch), key)
            pipe.hmget(self.keys.values(watch), keys)
            *scores, values = pipe.execute()
        return [
            (None if score is None else as_ms(score), value)
            for score, value in zip(scores, values, strict=True)
        ]

    def ledger(self, watch: str) -> Iterator[list[tuple[bytes, int]]]:
        """All (key, due) of a watch, page by page, in no order; what is added meanwhile may be left out."""
        cursor = 0
        while True:
            with self._translated():
                cursor, rows = self._client.zscan(self.keys.watched(watch), cursor, count=PAGE)
            if rows:
                yield [(key, as_ms(score)) for key, score in rows]
            if not cursor:
                return

    def deliver(self, watch: str, token: str, delivery: Delivery) -> None:
        """Forget keys that are gone, and store the timers of those who are to be told.

        Raises:
            NotLeading: nothing was done.
        """
        k = self.keys
        args: list[Any] = [token, REMEMBER_MS, k.wake, len(delivery.gone), *delivery.gone]
        for position, stored in enumerate(delivery.timers):
            # members of the delivery's own: its repetition must not make other ones
            args += [member(f"{delivery.token}.{position}", stored.id), stored.id, stored.encode()]
        keys = [
            *(k.leader(watch), k.watched(watch), k.values(watch), k.due, k.timers, k.ids, k.pacers),
            k.answer(delivery.token),
        ]
        with self._translated():
            if not self._scripts.deliver(keys=keys, args=args):
                raise NotLeading(f"another worker watches {watch} by now")

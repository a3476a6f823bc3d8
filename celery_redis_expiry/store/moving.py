"""What lies in a shard, out and in: for another number of shards, and for another Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.keys import label_of, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.timer import Lain, as_ms


class Moving(ShardBase):
    def claimed(self) -> int:
        """How many timers are claimed."""
        with self._translated():
            return int(self._client.zcard(self.keys.claimed))

    def page(self, home: str, offset: int, count: int) -> list[str]:
        """Members of `due`, `parked` or `dead`, by their order there."""
        with self._translated():
            rows = self._client.zrange(getattr(self.keys, home), offset, offset + count - 1)
        return [text(row) for row in rows]

    def read(self, home: str, members: Sequence[str]) -> list[Lain]:
        """What lies of these members, of those that are at `home`: `due`, `parked` or `dead`."""
        if not members:
            return []
        k = self.keys
        with self._translated():
            flat = self._scripts.read(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claims, k.dead, k.reasons),
                    *map(k.trigger, members),
                ],
                args=[home, *members],
            )
        return [self._lain(home, *flat[i : i + 9]) for i in range(0, len(flat), 9)]

    def _lain(self, home: str, *fields: Any) -> Lain:
        member, score, expiry, id, named, known, record, claim, reason = fields
        return Lain(
            *(text(member), text(id), home, as_ms(score)),
            expiry=text(expiry),
            named=bool(named),
            known=bool(known),
            record=record,
            claim=text(claim),
            reason=text(reason),
        )

    def put(self, items: Sequence[Lain], *, moving: bool = False) -> list[tuple[str, str]]:
        """Put here what lay elsewhere.

        Arguments:
            moving: by a resharding: what is here already is put once more.

        Returns:
            For each `put`; `here`, where it is already; or `taken`, with the member that has its name or
            task id.
        """
        if not items:
            return []
        k = self.keys
        args: list[str | int | bytes] = ["" if moving else self.shards, k.wake]
        for each in items:
            args += [each.member, label_of(each.member), each.id, each.home, each.score, each.expiry]
            args += [int(each.named), int(each.known), each.record, each.claim, each.reason]
        with self._translated():
            answers = self._scripts.put(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.dead, k.reasons),
                    *(k.pacers, k.namespace, *(k.trigger(each.member) for each in items)),
                ],
                args=args,
            )
        if answers[0][0] == b"shards":
            raise self.recut(text(answers[0][1]))
        return [(text(status), text(member)) for status, member in answers]

    def drop(self, member: str, id: str) -> bool:
        """Forget a timer or dead letter that was put into another shard; False if it was gone already."""
        k = self.keys
        with self._translated():
            return bool(
                self._scripts.drop(
                    keys=[
                        *(k.due, k.timers, k.names, k.ids, k.parked, k.claims, k.dead, k.reasons),
                        *(k.trigger(member), k.answer(new_token())),
                    ],
                    args=[REMEMBER_MS, member, label_of(member), id],
                )
            )

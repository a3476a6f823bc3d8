"""What lies in a shard, out and in: for another number of shards, and for another Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.keys import handle, label_of, member, member_of, new_token, text, uuid_of
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.template import Template
from celery_redis_expiry.timer import COMPACT as COMPACT_RECORD
from celery_redis_expiry.timer import Lain, Stored, Undecodable, as_ms

#: Answers of the put script that stand for all of a call.
NOTHING_DONE = (b"shards", b"lacking", b"clash")


class Moving(ShardBase):
    def claimed(self) -> int:
        """How many timers are claimed."""
        with self._translated():
            return int(self._client.zcard(self.keys.claimed))

    def page(self, home: str, offset: int, count: int) -> list[str]:
        """Members of `due`, `parked` or `dead`, by their order there."""
        with self._translated():
            rows = self._client.zrange(getattr(self.keys, home), offset, offset + count - 1)
            return self._members(rows)

    def read(self, home: str, members: Sequence[str]) -> list[Lain]:
        """What lies of these members, of those that are at `home`: `due`, `parked` or `dead`.

        Their stored messages are whole: where they are put, their templates may not be.
        """
        if not members:
            return []
        k = self.keys
        with self._translated():
            flat = self._scripts.read(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claims, k.dead, k.reasons),
                    *map(k.trigger, members),
                ],
                args=[home, *map(handle, members)],
            )
            found = [member_of(raw) for raw in flat[::9]]
            decoded = self._decoded(zip(found, flat[6::9], strict=True))
        return [
            self._lain(home, member, stored, *flat[9 * i + 1 : 9 * i + 9])
            for i, (member, stored) in enumerate(zip(found, decoded, strict=True))
        ]

    def _lain(self, home: str, member: str, stored: Stored | Undecodable, *fields: Any) -> Lain:
        score, expiry, id, named, known, record, claim, reason = fields
        return Lain(
            *(member, text(id), home, as_ms(score)),
            expiry=text(expiry),
            named=bool(named),
            known=bool(known),
            record=record if isinstance(stored, Undecodable) else stored.encode(),
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
        plain: set[int] = set()
        while True:
            answers = self._put_once(items, plain, moving)
            status = answers[0][0]
            if status == b"shards":
                raise self.recut(text(answers[0][1]))
            if status in (b"lacking", b"clash"):
                self.templates.refused(text(status), answers[0][1])
                continue
            refused = {i for i, answer in enumerate(answers) if answer[0] == b"plain"}
            if not refused:
                return [(text(status), member_of(member)) for status, member in answers]
            plain |= refused

    def _put_once(self, items: Sequence[Lain], plain: set[int], moving: bool) -> list[list[bytes]]:
        k = self.keys
        args: list[str | int | bytes] = []
        triggers: list[str] = []
        templates: list[Template] = []
        for i, each in enumerate(items):
            own, record = each.member, each.record
            if i in plain:
                own = member(new_token(), label_of(own))
            parts = self._parts(own, record)
            if parts is not None:
                templates.append(parts[1])
                record = parts[0].encode_split(own, *parts[1:])
            elif handle(own) != own:
                # what was stored whole stands nowhere by the bytes of its id
                own = own if record.startswith(COMPACT_RECORD) else member(new_token(), label_of(own))
            triggers.append(k.trigger(own))
            args += [handle(own), label_of(own), each.id, each.home, each.score, each.expiry]
            args += [int(each.named), int(each.known), record, each.claim, each.reason, uuid_of(each.id)]
        brought = self.templates.brought(templates)
        with self._translated():
            answers: list[list[bytes]] = self._scripts.put(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.dead, k.reasons),
                    *(k.pacers, k.namespace, k.templates, k.used, *triggers),
                ],
                args=["" if moving else self.shards, k.wake, *brought, *args],
            )
        if answers[0][0] not in NOTHING_DONE:
            self.templates.stored(brought)
        return answers

    def _parts(self, member: str, record: bytes) -> tuple[Stored, Template, bytes] | None:
        try:
            stored = Stored.decode(record, member)
        except Undecodable:
            return None
        parts = self.templates.split(stored)
        return parts and (stored, *parts)

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
                    args=[REMEMBER_MS, handle(member), label_of(member), id],
                )
            )

"""Firing in place: where the broker's queues lie in the same Redis database, one script claims and enqueues.

So no crash can fall between the two. What it does not fire, it leaves as it was, to be claimed and published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import handle, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.template import Template

#: For how long envelopes are kept from the last that was brought, ms: who misses one brings it again.
KEEP_MS = 7 * 86_400_000
#: How many timers one script may fire: it holds Redis for as long as they take.
SLICE = 100


@dataclass(frozen=True)
class Fired:
    """What became of some timers.

    Attributes:
        outcomes: a sign for each of them, in order, see `fire.lua`.
        latenesses: of those that fired, seconds.
        unknown: the names of the templates whose envelopes must be brought.
    """

    outcomes: str
    latenesses: list[float]
    unknown: list[bytes]


class Firing(ShardBase):
    def fire(
        self,
        members: Sequence[tuple[str, bool]],
        *,
        token: str,
        kind: bytes,
        queues: Sequence[str],
        brought: Mapping[bytes, str] | None = None,
    ) -> Fired:
        """Put the messages of due timers into the broker's queues, and forget the timers.

        Arguments:
            members: `SLICE` at most, each with whether an event said that its trigger key expired.
            token: of this call; a repetition with the same one gets the same answer.
            kind: of the envelopes: those of another kombu or another configuration are none of ours.
            queues: every list that may be pushed to.
            brought: JSON of envelopes by the names of their templates; "" for one that there can't be.
        """
        k = self.keys
        flat: list[bytes] = []
        for ref, envelope in (brought or {}).items():
            raw = envelope.encode()
            flat += [ref, hashlib.sha1(raw, usedforsecurity=False).hexdigest().encode() + raw]
        with self._translated():
            now, outcomes, dues, unknown = self._scripts.fire(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.claims, k.envelopes, k.answer(token)),
                    *queues,
                    *(k.trigger(member) for member, _ in members),
                ],
                args=[
                    *(token, REMEMBER_MS, kind, str(uuid4())[:-8], KEEP_MS, len(queues), len(flat) // 2),
                    *flat,
                    *(_told(member, expired) for member, expired in members),
                ],
            )
        at = float(now)
        late = {due: max(0.0, at - max(0.0, float(due))) / 1000 for due in set(dues.split())}
        latenesses = [late[due] for due in dues.split()]
        return Fired(text(outcomes), latenesses, unknown)

    def template(self, ref: bytes) -> Template | None:
        """The template of this name; None where it is missing or damaged."""
        with self._translated():
            return run(self.templates.named(ref))


def _told(member: str, expired: bool) -> bytes:
    found = handle(member)
    raw = found if isinstance(found, bytes) else found.encode(errors="surrogateescape")
    return (b"1" if expired else b"0") + raw

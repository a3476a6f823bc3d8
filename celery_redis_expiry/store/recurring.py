"""Recurring timers that are due: each is armed for its next instant in the script that makes its occurrence.

No script knows crontabs. So a claim tells of the recurring timers that are due, the next instants are found
in Python, and a second script goes by them if nothing has changed meanwhile. From then on an occurrence is a
timer as any other, of its own task id, claimed and published in the ordinary way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from celery_redis_expiry.keys import handle, label_of, member, new_token, shard_of, text
from celery_redis_expiry.recurring import Due
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.timer import Stored, Undecodable

#: How many are armed by one script: it holds Redis for as long as they take.
SLICE = 100


@dataclass(frozen=True, eq=False)
class Recurs:
    """A recurring timer that is due.

    Attributes:
        member: see `keys`.
        expired: whether an event said that its trigger key expired.
        due: ms since the epoch.
        now: on Redis's clock, ms.
        stored: what is stored of it, or why that can't be told.
        seen: the SHA1 of its record.
    """

    member: str
    expired: bool
    due: int
    now: int
    stored: Stored | Undecodable = field(repr=False)
    seen: str

    @classmethod
    def read(cls, member: str, expired: bool, due: int, now: int, record: bytes) -> Recurs:
        """Of what the claim told."""
        stored: Stored | Undecodable
        try:
            stored = Stored.decode(record)
        except Undecodable as exc:
            stored = exc
        seen = hashlib.sha1(record, usedforsecurity=False).hexdigest()
        return cls(member, expired, due, now, stored, seen)

    @property
    def label(self) -> str:
        return label_of(self.member)


@dataclass(frozen=True)
class Rearm:
    """What a recurring timer is to become.

    Attributes:
        recurs: the timer.
        due: what it stands for, and when it is due next.
        occurrence: what is to be stored of its occurrence.
    """

    recurs: Recurs
    due: Due
    occurrence: Stored = field(repr=False)


class RecurringTimers(ShardBase):
    def occurrence_id(self) -> str:
        """A fresh task id for an occurrence, whose home is this shard."""
        # timers are looked for where their task ids say, and one script makes it beside its recurring timer
        while True:
            id = str(uuid4())
            if shard_of(id, self.shards) == self.number:
                return id

    def recur(self, rearms: Sequence[Rearm]) -> list[tuple[str, str]]:
        """Arm recurring timers for their next instants, and make their occurrences.

        Returns:
            For each `fired` and the member of its occurrence; `skipped` and the task id that is awaited; or
            `""`, where another was faster.
        """
        answers: list[tuple[str, str]] = []
        for first in range(0, len(rearms), SLICE):
            answers += self._recur(rearms[first : first + SLICE])
        return answers

    def _recur(self, rearms: Sequence[Rearm]) -> list[tuple[str, str]]:
        while True:
            answers = self._recur_by(rearms)
            status, about = answers[0]
            if status not in ("lacking", "clash"):
                return answers
            self.templates.refused(status, about.encode(errors="surrogateescape"))

    def _recur_by(self, rearms: Sequence[Rearm]) -> list[tuple[str, str]]:
        k = self.keys
        keys = [k.due, k.timers, k.ids, k.parked, k.claims, k.pacers, k.templates, k.used]
        args: list[Any] = []
        members, templates = [], []
        for each in rearms:
            recurs, due, occurrence = each.recurs, each.due, each.occurrence
            stored = recurs.stored
            assert isinstance(stored, Stored)
            assert stored.recurring is not None
            plan, state = stored.recurring.plan, stored.recurring.state
            own = member(new_token(), occurrence.id)
            members.append(own)
            keys += [k.trigger(recurs.member), k.running(recurs.label)]
            args += [handle(recurs.member), "1" if recurs.expired else "0", recurs.seen, due.next]
            args += [state.after(due, occurrence.id).encode(), state.without(due).encode()]
            args += ["" if plan.bound is None else plan.bound]
            args += [own, occurrence.id, due.instant]
            # by a template, as any timer: it may fire in place
            parts = self.templates.split(occurrence)
            if parts is None:
                args.append(occurrence.encode())
            else:
                templates.append(parts[0])
                args.append(occurrence.encode_split(own, *parts))
        brought = self.templates.brought(templates)
        with self._translated():
            answers = self._scripts.recur(keys=keys, args=[k.wake, *brought, *args])
        if isinstance(answers[0], list):
            return [(text(answers[0][0]), text(answers[0][1]))]
        self.templates.stored(brought)
        return [
            ("fired", own) if outcome == "fired" else (outcome[:7], outcome[7:])
            for outcome, own in zip(map(text, answers), members, strict=True)
        ]

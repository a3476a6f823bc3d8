"""Claiming what is due, unless its guard calls it off.

No script computes a key, so a guard's keys must be known before it is asked, and only the stored message
knows them. A claim tells of the guarded timers that are due, and these are claimed by a second call with the
keys of their guards. Timers without a guard cost one call, as ever, and don't wait for the second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError

from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import handle, label_of, member_of, text
from celery_redis_expiry.store.asking import ask
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.store.recurring import Recurs
from celery_redis_expiry.timer import Claimed, Stored, Undecodable

#: After how long a parked timer is looked at again, ms; less than the cap of a pacer's sleep, so that no
#: waking passes it by.
RECHECK_MS = 50_000
#: What a guard said, where it was asked before the claim.
YES, NO = "y", "n"


@dataclass(frozen=True)
class Guarded:
    """A timer that is due and must not be claimed before its guard is asked.

    Attributes:
        member: see `keys`.
        expired: whether an event said that its trigger key expired.
        guard: None where it is damaged; the timer is claimed then, and becomes a dead letter.
    """

    member: str
    expired: bool
    guard: Guard | None


@dataclass(frozen=True)
class CalledOff:
    """A timer that its guard called off: nothing of it is stored any more.

    Attributes:
        member: see `keys`.
        id: the task id.
        unsure: whether the broker may have its message from an earlier attempt, and nobody knows.
    """

    member: str
    id: str
    unsure: bool


class Claims(list[Claimed]):
    """The timers that were claimed.

    Attributes:
        guarded: those that are due too, and have a guard that was not asked.
        called_off: those whose guard was asked, and called them off.
        recurring: those that are due and recur: each is to get an occurrence, and is not claimed itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.guarded: list[Guarded] = []
        self.called_off: list[CalledOff] = []
        self.recurring: list[Recurs] = []


class _Due(NamedTuple):
    """A member to be claimed.

    Attributes:
        guard: what is asked in the script, or was said already; see claim.lua.
        keys: of its guard, to be asked in the script.
    """

    member: str
    expired: bool
    guard: str = ""
    keys: tuple[str, ...] = ()


class Claiming(ShardBase):
    def claim(self, members: Sequence[tuple[str, bool]], *, token: str, lease: float) -> Claims:
        """Take due timers for publishing, but for those that have a guard.

        Arguments:
            members: each with whether an event said that its trigger key expired.
            token: of this claim; a repetition with the same one gets the same timers.
            lease: seconds.
        """
        with self._translated():
            return self._claim([_Due(*member) for member in members], token, lease)

    def claim_guarded(self, guarded: Sequence[Guarded], *, token: str, lease: float) -> Claims:
        """Take due timers whose guards let them pass; forget the others.

        Where this user of an ACL may not touch the keys, or where they lie on other nodes of a Cluster, they
        are asked for just before. Timers whose keys can't be read are taken, with the problem.
        """
        with self._translated():
            if not self.location.cluster:
                try:
                    return self._claim([_asking(each) for each in guarded], token, lease)
                except NoPermissionError:
                    # the keys of one must not hold the others up
                    pass
            guards = {each.member: each.guard or Guard() for each in guarded}
            keys = {key for guard in guards.values() for key in guard.keys}
            exists, problems = ask(self._client, keys, cluster=bool(self.location.cluster))
            said = {member: YES if guard.allows(exists) else NO for member, guard in guards.items()}
            claims = self._claim(
                [_Due(each.member, each.expired, said[each.member]) for each in guarded], token, lease
            )
            for claim in claims:
                unread = next((key for key in guards[claim.member].keys if key in problems), None)
                if unread is not None:
                    claim.problem = f"the key {unread!r} of its guard can't be read: {problems[unread]}"
            return claims

    def claim_broken(self, broken: Mapping[Recurs, str], *, token: str, lease: float) -> Claims:
        """Take recurring timers themselves, which can't go on: each with why, to become a dead letter."""
        why = {recurs.member: reason for recurs, reason in broken.items()}
        with self._translated():
            claims = self._claim([_Due(each.member, each.expired, YES) for each in broken], token, lease)
        for claim in claims:
            claim.stored = Undecodable(why[claim.member])
        return claims

    def _claim(self, due: Sequence[_Due], token: str, lease: float) -> Claims:
        if not due:
            return Claims()
        k = self.keys
        keys = [
            *(k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.pacers, k.answer(token)),
        ]
        args: list[Any] = [token, int(lease * 1000), RECHECK_MS, REMEMBER_MS, k.wake]
        handles = {each.member: handle(each.member) for each in due}
        for each in due:
            keys += [k.trigger(each.member), *each.keys]
            args += [handles[each.member], ("1" if each.expired else "0") + each.guard]
        answers = self._scripts.claim(keys=keys, args=args)
        now, taken, dues, attempts, records, guarded, called_off, recurring = answers
        # lateness is told on Redis's clock up to here, and on the monotonic one from here on
        clock_offset = int(now) / 1000 - time.monotonic()
        by_event = {each.member: each.expired for each in due}
        claims = Claims()
        members = [each.member for each, sign in zip(due, text(taken), strict=True) if sign == "t"]
        decoded = self._decoded(zip(members, records, strict=True))
        told = zip(members, map(int, dues.split()), map(int, attempts.split()), decoded, strict=True)
        for member, due_ms, attempted, stored in told:
            label = label_of(member)
            claims.append(
                Claimed(
                    *(member, label, due_ms, attempted, stored, token),
                    id=label if isinstance(stored, Undecodable) else stored.id,
                    shard=self.number,
                    by_event=by_event[member],
                    due_local=due_ms / 1000 - clock_offset,
                    handle=handles[member],
                )
            )
        for i in range(0, len(guarded), 2):
            member = member_of(guarded[i])
            claims.guarded.append(Guarded(member, by_event[member], _guard(guarded[i + 1])))
        for i in range(0, len(called_off), 3):
            member = member_of(called_off[i])
            # a damaged message has lost its task id
            id = text(called_off[i + 1]) or label_of(member)
            claims.called_off.append(CalledOff(member, id, called_off[i + 2] == b"1"))
        for i in range(0, len(recurring), 3):
            member = member_of(recurring[i])
            claims.recurring.append(
                Recurs.read(member, by_event[member], int(recurring[i + 1]), int(now), recurring[i + 2])
            )
        return claims


def _guard(record: bytes) -> Guard | None:
    try:
        return Stored.decode(record).guard
    except Undecodable:
        return None


def _asking(each: Guarded) -> _Due:
    """To be claimed if its guard lets it, asked in the same step."""
    if each.guard is None:
        return _Due(each.member, each.expired, YES)
    return _Due(each.member, each.expired, each.guard.signs, each.guard.keys)

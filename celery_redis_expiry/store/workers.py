"""What an expiry worker does to the store: look, touch, prolong, ack, release, recover, bury."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import dumps

from celery_redis_expiry.keys import handle, member_of, text
from celery_redis_expiry.store.base import ShardBase
from celery_redis_expiry.store.claiming import RECHECK_MS
from celery_redis_expiry.store.firing import Due, due_at
from celery_redis_expiry.timer import Claimed, as_ms

#: The longest sleep of a pacer: it covers lost wake-ups, half-open sockets and clock steps.
CAP_MS = 60_000
#: A worker that has not announced its next waking for so long is forgotten.
STALE_MS = 300_000


@dataclass(frozen=True)
class Look:
    """What a pacer sees: times in ms on Redis's clock, `now` with a fraction.

    Attributes:
        wake: when to look again, as announced.
        lease: when the first lease ends, or None.
        due: (member, due) of what is due, oldest first.
        newest: the same of the newest due, where `due` does not hold all.
        parked: members to look at again.
        next_due: when the next falls due, or None.
        next: those that do then; not all of them where they are many or large.
    """

    now: float
    wake: int
    lease: int | None
    due: list[tuple[str, int]]
    newest: list[tuple[str, int]]
    parked: list[str]
    next_due: int | None = None
    next: Sequence[Due] = ()


class Workers(ShardBase):
    def look(
        self, worker: str, *, limit: int, newest: int | None = None, parked: int, ahead: int = 0
    ) -> Look:
        """Read what is due, and announce when this worker's pacer wakes.

        Arguments:
            worker: the name to announce under.
            limit: how many timers at most.
            newest: how many of the newest at most, where there are more than that; by default a quarter.
            parked: how many parked ones at most.
            ahead: how many at most of those that fall due next.
        """
        k = self.keys
        newest = newest or max(1, limit // 4)
        with self._translated():
            answer = self._scripts.look(
                keys=[k.due, k.parked, k.claimed, k.pacers, k.namespace, k.timers],
                args=[worker, limit, newest, parked, CAP_MS, STALE_MS, self.shards, ahead],
            )
        if len(answer) == 1:
            raise self.recut(text(answer[0]))
        now, wake, lease, due, latest, parked_members, coming = answer
        return Look(
            now=int(now) / 1000,
            wake=int(wake),
            lease=as_ms(lease) if lease else None,
            due=_pairs(due),
            newest=_pairs(latest),
            parked=[member_of(value) for value in parked_members],
            next_due=as_ms(coming[0]) if coming else None,
            next=[due_at(place, record) for place, record in zip(coming[1::2], coming[2::2], strict=True)],
        )

    def touch(self, members: Sequence[str]) -> None:
        """Let due trigger keys expire now; follow those whose TTL was changed."""
        if not members:
            return
        k = self.keys
        with self._translated():
            self._scripts.touch(
                keys=[k.due, k.parked, k.pacers, k.timers, *map(k.trigger, members)],
                args=[RECHECK_MS, k.wake, *map(handle, members)],
            )

    def ack(self, token: str, claims: Sequence[Claimed]) -> int:
        """Forget published timers; returns how many were still this claim's."""
        if not claims:
            return 0
        k = self.keys
        args: list[Any] = [token]
        for claim in claims:
            compact = isinstance(claim.handle, bytes)
            args += [claim.handle, "", ""] if compact else [claim.handle, claim.label, claim.id]
        with self._translated():
            return int(self._scripts.ack(keys=[k.timers, k.names, k.ids, k.claimed, k.claims], args=args))

    def release(
        self,
        token: str,
        claims: Sequence[Claimed],
        *,
        delay: float = 0,
        tried: bool = False,
        unsure: bool = False,
    ) -> int:
        """Give claimed timers back.

        Arguments:
            delay: seconds until they may be claimed again.
            tried: whether the message itself was refused (counts as an attempt).
            unsure: whether the broker may have the messages: they are beyond recall then.
        """
        if not claims:
            return 0
        k = self.keys
        how = [token, int(delay * 1000), int(tried), int(unsure), k.wake]
        with self._translated():
            return int(
                self._scripts.release(
                    keys=[k.due, k.claimed, k.claims, k.pacers],
                    args=[*how, *(claim.handle for claim in claims)],
                )
            )

    def prolong(self, token: str, claims: Sequence[Claimed], lease: float) -> set[str]:
        """Hold claimed timers for another `lease` seconds; returns the members that are another's by now."""
        k = self.keys
        with self._translated():
            lost = self._scripts.prolong(
                keys=[k.claimed, k.claims],
                args=[token, int(lease * 1000), *(claim.handle for claim in claims)],
            )
        return {member_of(member) for member in lost}

    def recover(self, limit: int) -> int:
        """Release what dead workers had claimed; returns how many."""
        k = self.keys
        with self._translated():
            return int(
                self._scripts.recover(keys=[k.due, k.claimed, k.claims, k.pacers], args=[limit, k.wake])
            )

    def bury(self, claim: Claimed, reason: str, origin: str) -> bool:
        """Move a claimed timer to the dead letters, with the reason and the worker that gave it up."""
        k = self.keys
        with self._translated():
            return bool(
                self._scripts.bury(
                    keys=[k.names, k.ids, k.claimed, k.claims, k.dead, k.reasons],
                    args=[
                        claim.token, claim.handle, claim.label, claim.id,
                        dumps({"reason": reason, "origin": origin}),
                    ],
                )
            )  # fmt: skip

    def withdraw(self, worker: str) -> None:
        """Forget what a stopping worker announced."""
        with self._translated():
            self._client.zrem(self.keys.pacers, worker)


def _pairs(told: tuple[list[bytes], bytes]) -> list[tuple[str, int]]:
    members, dues = told
    return list(zip(map(member_of, members), map(as_ms, dues.split()), strict=True))

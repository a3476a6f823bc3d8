"""Firing in place: where the broker's queues lie in the same Redis database, one script claims and enqueues.

So no crash can fall between the two. What it does not fire, it leaves as it was, to be claimed and published.
The messages are made beforehand, each of a stored message; where another lies there by then, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import COMPACT, HANDLE, PLACE, handle, member_of, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.store.line import Call, answers
from celery_redis_expiry.template import Template

#: How many timers one script may fire: it holds Redis for as long as they take.
SLICE = 100
#: How many of the oldest, and of the newest, that are due one script may read.
OLDEST, NEWEST = 500, 20


class Due(NamedTuple):
    """A timer that is due.

    Attributes:
        member: see `keys`.
        handle: as scripts have it.
        expired: whether an event said that its trigger key expired.
        record: its stored message; empty where it has none.
    """

    member: str
    handle: bytes
    expired: bool
    record: bytes


class Filled(NamedTuple):
    """One whose message is made.

    Attributes:
        queue: the list that the message is to be put into, as the broker has it; "" where there is neither.
        message: as it will lie there.
    """

    due: Due
    queue: str
    message: str


@dataclass(frozen=True)
class Fired:
    """What became of some timers.

    Attributes:
        timers: which.
        outcomes: a sign for each of them, in order, see `fire.lua`.
        latenesses: of those that fired, seconds.
    """

    timers: Sequence[Filled]
    outcomes: str
    latenesses: list[float]

    def signed(self, sign: str) -> list[tuple[str, bool]]:
        """Those with a sign: members, each with whether an event told of it."""
        return [
            (timer.due.member, timer.due.expired)
            for timer, its in zip(self.timers, self.outcomes, strict=True)
            if its == sign
        ]


class Firing(ShardBase):
    def read_due(self, members: Sequence[tuple[str, bool]]) -> list[Due]:
        """Timers with their stored messages.

        Arguments:
            members: each with whether an event said that its trigger key expired.
        """
        handles = [_handle(member) for member, _ in members]
        with self._translated():
            records = run(self.link.execute("HMGET", self.keys.timers, *map(_place, handles)))
        return [
            Due(member, handle, expired, record or b"")
            for (member, expired), handle, record in zip(members, handles, records, strict=True)
        ]

    def read_oldest(self) -> list[Due]:
        """What the index says is due: the `OLDEST`, and where there are more the `NEWEST`."""
        with self._translated():
            told = self._scripts.oldest(keys=[self.keys.due, self.keys.timers], args=[OLDEST, NEWEST])
        lengths, places, records = told
        found: list[Due] = []
        ends = map(int, lengths.split())
        at = place_at = 0
        for place_length, length in zip(ends, ends, strict=True):
            place = places[place_at : place_at + place_length]
            record = records[at : at + length]
            at, place_at = at + length, place_at + place_length
            own = place + record[1 : 1 + HANDLE - PLACE] if place.startswith(COMPACT) else place
            found.append(Due(member_of(own), own, False, record))
        return found

    def fire(self, timers: Sequence[Filled], *, token: str) -> Fired:
        """Put the messages of due timers into the broker's queues, and forget the timers.

        Arguments:
            timers: `SLICE` at most.
            token: of this call; a repetition with the same one gets the same answer.
        """
        timers = _by_queue(timers)
        keys, args = self._call(timers, token)
        with self._translated():
            return _fired(timers, self._scripts.fire(keys=keys, args=args))

    def fire_all(self, slices: Iterable[Sequence[Filled]]) -> Iterator[Fired]:
        """`fire` several slices, each of which is asked for while Redis is busy with the last."""

        def calls() -> Iterator[tuple[Sequence[Filled], Call]]:
            for timers in map(_by_queue, slices):
                yield timers, self._call(timers, new_token())

        def again(call: Call) -> Any:
            return self._scripts.fire(keys=call[0], args=call[1])

        with self._translated():
            for timers, answer in answers(self._client, "fire", calls(), again):
                yield _fired(timers, answer)

    def template(self, ref: bytes) -> Template | None:
        """The template of this name; None where it is missing or damaged."""
        with self._translated():
            return run(self.templates.named(ref))

    def _call(self, timers: Sequence[Filled], token: str) -> Call:
        k = self.keys
        runs = [(queue, len(list(run))) for queue, run in groupby(timers, attrgetter("queue")) if queue]
        dues = [timer.due for timer in timers]
        keys = [
            *(k.due, k.timers, k.names, k.ids, k.claims, k.answer(token)),
            *(queue for queue, _ in runs),
            *(k.trigger(due.member) for due in dues),
        ]
        args = [
            *(token, REMEMBER_MS, "".join("1" if due.expired else "0" for due in dues)),
            " ".join(str(count) for _, count in runs),
            *(due.handle for due in dues),
            *(due.record for due in dues),
            *(timer.message for timer in timers if timer.queue),
        ]
        return keys, args


def _by_queue(timers: Sequence[Filled]) -> Sequence[Filled]:
    """Those of one queue together, in their order; last those that have none."""
    if len({timer.queue for timer in timers}) < 2:
        return timers
    return sorted(timers, key=lambda timer: (not timer.queue, timer.queue))


def _fired(timers: Sequence[Filled], answer: Any) -> Fired:
    now, outcomes, dues = answer
    at = float(now)
    late = {due: max(0.0, at - max(0.0, float(due))) / 1000 for due in set(dues.split())}
    return Fired(timers, text(outcomes), [late[due] for due in dues.split()])


def _handle(member: str) -> bytes:
    found = handle(member)
    return found if isinstance(found, bytes) else found.encode(errors="surrogateescape")


def _place(handle: bytes) -> bytes:
    return handle[:PLACE] if handle.startswith(COMPACT) else handle

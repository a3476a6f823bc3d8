"""Firing in place: where the broker's queues lie in the same Redis database, one script claims and enqueues.

So no crash can fall between the two. What it does not fire, it leaves as it was, to be claimed and published.
The messages are made beforehand, each of a stored message; where another lies there by then, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import COMPACT, HANDLE, PLACE, Keys, handle, member_of, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.store.line import Call, Line, line
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


def due_at(place: bytes, record: bytes) -> Due:
    """The timer that lies at a place of the index, by its stored message."""
    own = place + record[1 : 1 + HANDLE - PLACE] if place.startswith(COMPACT) else place
    return Due(member_of(own), own, False, record)


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
        """What the index says is due: the `OLDEST`, and where there are more, before them, the `NEWEST`."""
        keys, args = _read_call(self.keys)
        with self._translated():
            return _read(self._scripts.oldest(keys=keys, args=args))

    def fire(self, timers: Sequence[Filled], *, token: str) -> Fired:
        """Put the messages of due timers into the broker's queues, and forget the timers.

        Arguments:
            timers: `SLICE` at most.
            token: of this call; a repetition with the same one gets the same answer.
        """
        timers = _by_queue(timers)
        keys, args = _fire_call(self.keys, timers, token)
        with self._translated():
            return _fired(timers, self._scripts.fire(keys=keys, args=args))

    @contextmanager
    def firing(self) -> Iterator[FiringLine]:
        """Fire many, of which the next are made while Redis is busy with the last."""

        def again(script: str, call: Call) -> Any:
            return getattr(self._scripts, script)(keys=call[0], args=call[1])

        with self._translated(), line(self._client, again) as found:
            yield FiringLine(found, self.keys)

    def template(self, ref: bytes) -> Template | None:
        """The template of this name; None where it is missing or damaged."""
        with self._translated():
            return run(self.templates.named(ref))


class FiringLine:
    """What `Firing` does, several calls of which are on their way at once."""

    def __init__(self, line: Line, keys: Keys) -> None:
        self._line = line
        self._keys = keys

    def read_oldest(self) -> None:
        """Ask for it. What is on its way has fired by then, unless Redis had forgotten the script."""
        self._line.ask("oldest", _read_call(self._keys), _read)

    def fire(self, timers: Sequence[Filled]) -> None:
        """Ask for it: `SLICE` at most."""
        timers = _by_queue(timers)
        self._line.ask("fire", _fire_call(self._keys, timers, new_token()), partial(_fired, timers))

    @property
    def slices(self) -> int:
        """How many are on their way to be fired."""
        return self._line.asked("fire")

    @property
    def waits(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._line.asked())

    def answer(self) -> Fired | list[Due]:
        """The next answer, in the order in which they were asked for."""
        answer: Fired | list[Due] = self._line.answer()
        return answer


def _read_call(keys: Keys) -> Call:
    return [keys.due, keys.timers], [OLDEST, NEWEST]


def _read(told: Any) -> list[Due]:
    lengths, places, records = told
    found: list[Due] = []
    ends = map(int, lengths.split())
    at = place_at = 0
    for place_length, length in zip(ends, ends, strict=True):
        place = places[place_at : place_at + place_length]
        record = records[at : at + length]
        at, place_at = at + length, place_at + place_length
        found.append(due_at(place, record))
    return found


def _fire_call(k: Keys, timers: Sequence[Filled], token: str) -> Call:
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

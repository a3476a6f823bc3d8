"""What waits to be claimed: for each shard one lane for what falls due now, and one for the backlog."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from celery_redis_expiry.worker.remembered import Remembered

#: How many members wait in a lane at most; the index knows those that find no place.
LANE = 10_000
#: How many members are remembered as published, so that their own late events are no work.
REMEMBERED = 20_000


@dataclass
class _Pair:
    """The lanes of one shard."""

    events: dict[str, None] = field(default_factory=dict)
    backlog: dict[str, None] = field(default_factory=dict)
    rests_until: float = 0.0


class Lanes:
    """Filled by listeners and pacer, emptied by the dispatcher; safe between threads.

    Arguments:
        shards: how many there are.
    """

    def __init__(self, shards: int = 1) -> None:
        self._condition = threading.Condition()
        self._lane = max(LANE // shards, 1000)
        self._pairs = [_Pair() for _ in range(shards)]
        # those with work, the one that waits longest for its turn first
        self._turns: dict[int, None] = {}
        self._published = Remembered(REMEMBERED)
        self._closed = False

    def fire(self, shard: int, member: str) -> None:
        """An event says that this timer's trigger key has expired."""
        self.fire_all(shard, [member])

    def fire_all(self, shard: int, members: Iterable[str]) -> None:
        """Events say that the trigger keys of these timers have expired."""
        with self._condition:
            pair = self._pairs[shard]
            news = [member for member in members if member not in self._published]
            if not news or _resting(pair):
                return
            for member in news[: max(0, self._lane - len(pair.events))]:
                pair.backlog.pop(member, None)
                pair.events[member] = None
            if pair.events:
                self._turns.setdefault(shard)
                self._condition.notify()

    def catch_up(self, shard: int, late: Iterable[str], newest: Iterable[str] = ()) -> float | None:
        """The index says that these are due; the newest are not to wait behind the late ones.

        Returns:
            None; or, on the monotonic clock, when to come again: the shard rests until then.
        """
        with self._condition:
            pair = self._pairs[shard]
            if _resting(pair):
                return pair.rests_until
            waiting = pair.events.keys() | pair.backlog.keys()
            fresh = dict.fromkeys(member for member in newest if member not in waiting)
            room = max(0, self._lane - len(pair.backlog))
            more = [member for member in late if member not in waiting and member not in fresh][:room]
            if fresh or more:
                pair.backlog = {**fresh, **pair.backlog, **dict.fromkeys(more)}
                self._turns.setdefault(shard)
                self._condition.notify()
            return None

    def knows(self, shard: int, member: str) -> bool:
        """Whether this timer waits in a lane or is being published."""
        return member in self.known(shard, [member])

    def known(self, shard: int, members: Iterable[str]) -> set[str]:
        """Those of these timers that wait in a lane or are being published."""
        with self._condition:
            pair = self._pairs[shard]
            return {member for member in members if member in pair.events or member in pair.backlog}

    def wait(self, timeout: float) -> bool:
        """Wait for work, `timeout` seconds at most; returns whether there is some."""
        with self._condition:
            self._condition.wait_for(lambda: self._turns or self._closed, timeout)
            return bool(self._turns)

    def take(self, batch: int) -> tuple[int, list[tuple[str, bool]]]:
        """The shard whose turn it is, and half a batch from each of its lanes, more where the other has less.

        What is taken stays known until `done`, which must come before the next call.

        Returns:
            The shard's number, and members, each with whether an event told of it.
        """
        with self._condition:
            shard = next(iter(self._turns), 0)
            pair = self._pairs[shard]
            events = list(pair.events)[: max(batch // 2, batch - len(pair.backlog), 1)]
            backlog = list(pair.backlog)[: batch - len(events)]
        return shard, [(member, True) for member in events] + [(member, False) for member in backlog]

    def done(self, shard: int, members: Iterable[str]) -> bool:
        """These were dealt with, in whatever way; returns whether the backlog's lane is empty now."""
        with self._condition:
            pair = self._pairs[shard]
            for member in members:
                pair.events.pop(member, None)
                pair.backlog.pop(member, None)
            self._turns.pop(shard, None)
            if pair.events or pair.backlog:
                self._turns[shard] = None  # at the end: the others come first
            return not pair.backlog

    def rest(self, shard: int, seconds: float) -> None:
        """Redis does not answer for this shard: its timers are no work for a while; the index knows them."""
        with self._condition:
            self._pairs[shard] = _Pair(rests_until=time.monotonic() + seconds)
            self._turns.pop(shard, None)

    def published(self, members: Iterable[str]) -> None:
        """These are in the broker: their own expired events may still be on the way, and are no work."""
        with self._condition:
            self._published.add(members)

    def was_published(self, member: str) -> bool:
        """Whether this process remembers having published it."""
        with self._condition:
            return member in self._published

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()


def _resting(pair: _Pair) -> bool:
    return pair.rests_until > time.monotonic()

"""What waits to be claimed: for each shard a lane of events, one of the backlog, one of what is fresh.

A burst makes as many events, in whatever order, and none of them says when its timer was due. So it is the
index that tells what is fresh, and what is fresh overtakes a backlog, in a batch of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from celery_redis_expiry.worker.remembered import Remembered

#: How many members wait in a lane at most; the index knows those that find no place.
LANE = 10_000
#: How many are fresh at most; the oldest of more are left to the index.
FRESH = 1_000
#: How many members are remembered as published, so that their own late events are no work.
REMEMBERED = 20_000


@dataclass
class _Pair:
    """The lanes of one shard, and what was taken from them.

    Attributes:
        fresh: the newest first, each with whether an event told of it.
        served: whether the last batch was one of fresh ones.
        more: whether the index may know of more than found a place.
    """

    fresh: dict[str, bool] = field(default_factory=dict)
    events: dict[str, None] = field(default_factory=dict)
    backlog: dict[str, None] = field(default_factory=dict)
    taken: dict[str, None] = field(default_factory=dict)
    served: bool = False
    more: bool = False
    rests_until: float = 0.0

    def knows(self, member: str) -> bool:
        return member in self.events or member in self.backlog or member in self.fresh or member in self.taken

    def leave(self, member: str) -> bool:
        """It leaves its lane; returns whether an event told of it."""
        self.backlog.pop(member, None)
        told = member in self.events or self.fresh.pop(member, False)
        self.events.pop(member, None)
        return told

    def waits(self) -> bool:
        return bool(self.fresh or self.events or self.backlog)


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
            for member in news:
                if member in pair.fresh:
                    pair.fresh[member] = True
                elif member in pair.taken or member in pair.events:
                    pass
                elif len(pair.events) < self._lane:
                    pair.backlog.pop(member, None)
                    pair.events[member] = None
                else:
                    pair.more = True
            self._offer(shard, pair)

    def catch_up(self, shard: int, late: Iterable[str], newest: Iterable[str] = ()) -> float | None:
        """The index says that these are due.

        Arguments:
            late: the oldest; those that find no place are left to the index.
            newest: of a backlog, the newest first. They are not to wait behind the others, whatever told of
                them before.

        Returns:
            None; or, on the monotonic clock, when to come again: the shard rests until then.
        """
        with self._condition:
            pair = self._pairs[shard]
            if _resting(pair):
                return pair.rests_until
            fresh = {member: pair.leave(member) for member in newest if member not in pair.taken}
            pair.fresh = {**fresh, **pair.fresh}
            while len(pair.fresh) > FRESH:
                pair.fresh.popitem()
            room = max(0, self._lane - len(pair.backlog))
            more = list(islice((member for member in late if not pair.knows(member)), room))
            pair.backlog.update(dict.fromkeys(more))
            pair.more |= bool(fresh or more)
            self._offer(shard, pair)
            return None

    def knows(self, shard: int, member: str) -> bool:
        """Whether this timer waits in a lane or is being published."""
        return member in self.known(shard, [member])

    def known(self, shard: int, members: Iterable[str]) -> set[str]:
        """Those of these timers that wait in a lane or are being published."""
        with self._condition:
            pair = self._pairs[shard]
            return {member for member in members if pair.knows(member)}

    def crowded(self, shard: int, count: int) -> bool:
        """Whether so many wait in the backlog's lane already."""
        with self._condition:
            return len(self._pairs[shard].backlog) >= count

    def wait(self, timeout: float) -> bool:
        """Wait for work, `timeout` seconds at most; returns whether there is some."""
        with self._condition:
            self._condition.wait_for(lambda: self._turns or self._closed, timeout)
            return bool(self._turns)

    def take(self, batch: int) -> tuple[int, list[tuple[str, bool]]]:
        """A batch of the shard whose turn it is.

        What is fresh is a batch of its own, so that it does not wait for the others' publishing; the next is
        of the others, half from each of their lanes, more where one has less. What is taken stays known
        until `done`.

        Returns:
            The shard's number, and members, each with whether an event told of it.
        """
        with self._condition:
            shard = next(iter(self._turns), 0)
            pair = self._pairs[shard]
            if pair.fresh and not (pair.served and (pair.events or pair.backlog)):
                taken = list(islice(pair.fresh.items(), batch))
                pair.served = True
            else:
                events = list(islice(pair.events, max(batch // 2, batch - len(pair.backlog), 1)))
                backlog = list(islice(pair.backlog, batch - len(events)))
                taken = [(member, True) for member in events] + [(member, False) for member in backlog]
                pair.served = False
            for member, _ in taken:
                pair.leave(member)
                pair.taken[member] = None
            self._turns.pop(shard, None)
            if pair.waits():
                self._turns[shard] = None  # at the end: the others come first
        return shard, taken

    def lacks(self, shard: int) -> bool:
        """Whether the backlog's lane is empty, and the index may know of more; says so once."""
        with self._condition:
            pair = self._pairs[shard]
            lacks, pair.more = pair.more and not pair.backlog, pair.more and bool(pair.backlog)
            return lacks

    def done(self, shard: int, members: Iterable[str]) -> None:
        """These were dealt with, in whatever way."""
        with self._condition:
            taken = self._pairs[shard].taken
            for member in members:
                taken.pop(member, None)

    def rest(self, shard: int, seconds: float) -> None:
        """Redis does not answer for this shard: its timers are no work for a while; the index knows them."""
        with self._condition:
            self._pairs[shard] = _Pair(rests_until=time.monotonic() + seconds)
            self._turns.pop(shard, None)

    def published(self, members: Iterable[str]) -> None:
        """These are in the broker: their own expired events may still be on the way, and are no work."""
        with self._condition:
            self._published.add(members)

    def fired(self, shard: int, members: Iterable[str]) -> None:
        """These are in the broker and no longer in the index: they need no place in a lane either."""
        with self._condition:
            pair = self._pairs[shard]
            members = list(members)
            for member in members:
                pair.leave(member)
            self._published.add(members)
            if not pair.waits():
                self._turns.pop(shard, None)

    def were_published(self, members: Iterable[str]) -> set[str]:
        """Those of these that this process remembers having published."""
        with self._condition:
            return {member for member in members if member in self._published}

    def _offer(self, shard: int, pair: _Pair) -> None:
        if pair.waits():
            self._turns.setdefault(shard)
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()


def _resting(pair: _Pair) -> bool:
    return pair.rests_until > time.monotonic()

"""What waits to be claimed: one lane for what falls due now, one for the backlog."""

from __future__ import annotations

import threading
from collections.abc import Iterable

#: How many members wait in a lane at most; the index knows those that find no place.
LANE = 10_000
#: How many members are remembered as published, so that their own late events are no work.
REMEMBERED = 20_000


class Lanes:
    """Filled by listener and pacer, emptied by the dispatcher; safe between threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._events: dict[str, None] = {}
        self._backlog: dict[str, None] = {}
        self._published: dict[str, None] = {}
        self._closed = False

    def fire(self, member: str) -> None:
        """An event says that this timer's trigger key has expired."""
        with self._condition:
            if member not in self._published and len(self._events) < LANE:
                self._backlog.pop(member, None)
                self._events[member] = None
                self._condition.notify()

    def catch_up(self, late: Iterable[str], newest: Iterable[str] = ()) -> None:
        """The index says that these are due; the newest are not to wait behind the late ones."""
        with self._condition:
            waiting = self._events.keys() | self._backlog.keys()
            fresh = dict.fromkeys(member for member in newest if member not in waiting)
            room = max(0, LANE - len(self._backlog))
            more = [member for member in late if member not in waiting and member not in fresh][:room]
            if fresh or more:
                self._backlog = {**fresh, **self._backlog, **dict.fromkeys(more)}
                self._condition.notify()

    def knows(self, member: str) -> bool:
        """Whether this timer waits in a lane or is being published."""
        with self._condition:
            return member in self._events or member in self._backlog

    def wait(self, timeout: float) -> bool:
        """Wait for work, `timeout` seconds at most; returns whether there is some."""
        with self._condition:
            self._condition.wait_for(lambda: self._events or self._backlog or self._closed, timeout)
            return bool(self._events or self._backlog)

    def take(self, batch: int) -> list[tuple[str, bool]]:
        """Half a batch from each lane, more where the other has less; they stay known until `done`.

        Returns:
            Members, each with whether an event told of it.
        """
        with self._condition:
            events = list(self._events)[: max(batch // 2, batch - len(self._backlog), 1)]
            backlog = list(self._backlog)[: batch - len(events)]
        return [(member, True) for member in events] + [(member, False) for member in backlog]

    def done(self, members: Iterable[str]) -> bool:
        """These were dealt with, in whatever way; returns whether the backlog's lane is empty now."""
        with self._condition:
            for member in members:
                self._events.pop(member, None)
                self._backlog.pop(member, None)
            return not self._backlog

    def published(self, members: Iterable[str]) -> None:
        """These are in the broker: their own expired events may still be on the way, and are no work."""
        with self._condition:
            self._published.update(dict.fromkeys(members))
            while len(self._published) > REMEMBERED:
                del self._published[next(iter(self._published))]

    def was_published(self, member: str) -> bool:
        """Whether this process remembers having published it."""
        with self._condition:
            return member in self._published

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()

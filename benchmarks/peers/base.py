"""The one small interface of all adapters. An adapter runs in its peer's own environment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime, timezone
from typing import Any

from benchmarks.place import Place

#: A job: its label, and when it is due, ms since the epoch. Each has a second small argument besides, 7.
Item = tuple[str, int]
SECOND = 7
#: How many calls an asynchronous peer has under way at once where it has no call for many.
AT_ONCE = 100


class Adapter:
    """A peer, as its documentation tells to use it, with its own defaults where nothing else is said.

    Attributes:
        queue: the queue meant, for those that can be told.
    """

    #: Whether it has a call for many jobs, or something faster than one call after the other.
    bulk = False

    def __init__(self, place: Place) -> None:
        self.place = place
        self.queue = place.queue

    def schedule(self, items: Sequence[Item]) -> None:
        """One after the other, as a program does that schedules when its users act."""
        raise NotImplementedError

    def schedule_many(self, items: Sequence[Item]) -> None:
        """The fastest documented way for many."""
        raise NotImplementedError

    def enqueue(self, label: str) -> None:
        """One that runs at once: by it the harness learns that a worker is up."""
        raise NotImplementedError

    def send(self, labels: Sequence[str]) -> None:
        """For those built on Celery: `apply_async` in a loop, no delay."""
        raise NotImplementedError

    def work(self, role: str) -> None:
        """Be a worker until the process is told to end."""
        raise NotImplementedError


class AsyncAdapter(Adapter):
    """One whose calls are coroutines: they run on a loop of its own."""

    bulk = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._loop = asyncio.new_event_loop()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    async def one(self, item: Item) -> None:
        raise NotImplementedError

    async def many(self, items: Sequence[Item]) -> None:
        """Without a call for many: a hundred calls at once."""
        for start in range(0, len(items), AT_ONCE):
            await asyncio.gather(*(self.one(item) for item in items[start : start + AT_ONCE]))

    def schedule(self, items: Sequence[Item]) -> None:
        async def each() -> None:
            for item in items:
                await self.one(item)

        self._run(each())

    def schedule_many(self, items: Sequence[Item]) -> None:
        self._run(self.many(items))


def moment(at: int) -> datetime:
    """Milliseconds since the epoch as an aware datetime."""
    seconds, milliseconds = divmod(at, 1000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=milliseconds * 1000)

"""One description of a call for two faces: the one that blocks, and the one that is awaited.

What users' calls do is written once, as coroutines that speak to Redis through a `store.AnyLink`. Where that
blocks, none of them ever waits for an event loop, and `run` brings it to its end at once; or `Begun`, which
lets the caller do something else while Redis works.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: What a coroutine says when it has sent something, and its answer has still to come.
_SENT = object()


@types.coroutine
def sent() -> Generator[object, None, None]:
    """Let whoever drives the coroutine do something else, before it waits for an answer."""
    yield _SENT


def run(steps: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns whose link blocks; also where an event loop runs in this thread.

    Raises:
        RuntimeError: it waited for an event loop, so its link does not block.
    """
    return Begun(steps).end()


class Begun(Generic[T]):
    """Such a coroutine, taken as far as to what it has sent first.

    Raises what the coroutine does, when it does.
    """

    def __init__(self, steps: Coroutine[Any, Any, T]) -> None:
        self._steps = steps
        self._answers: list[T] = []
        self._go_on()

    def end(self) -> T:
        """Go on to its end: what it returns."""
        while not self._answers:
            self._go_on()
        return self._answers[0]

    def _go_on(self) -> None:
        try:
            waits_for = self._steps.send(None)
        except StopIteration as end:
            self._answers.append(end.value)
            return
        if waits_for is not _SENT:
            self._steps.close()
            raise RuntimeError("a call that blocks must not wait for an event loop")

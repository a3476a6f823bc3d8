"""One description of a call for two faces: the one that blocks, and the one that is awaited.

What users' calls do is written once, as coroutines that speak to Redis through a `store.AnyLink`. Where that
blocks, none of them ever waits for an event loop, and `run` brings it to its end at once.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(steps: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns whose link blocks; also where an event loop runs in this thread.

    Raises:
        RuntimeError: it waited for an event loop, so its link does not block.
    """
    try:
        steps.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    steps.close()
    raise RuntimeError("a call that blocks must not wait for an event loop")

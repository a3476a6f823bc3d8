"""Waiting for a condition with a deadline: the only way the tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T | None],
    *,
    timeout: float = 20.0,
    every: float = 0.02,
    what: str | Callable[[], str] = "the condition",
) -> T:
    """Poll `condition` until its answer is true and return that answer; fail once `timeout` seconds are over.

    What is told about a failure (`what`) may be a function, so that it can say what was there in the end.
    """
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {told}")
        time.sleep(every)

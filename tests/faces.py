"""The public calls through either face: as they block, and as they are awaited on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

import celery_redis_expiry

#: What there is with and without an `a` before its name.
CALLS = ("schedule_on_expiry", "schedule_many_on_expiry", "cancel", "reschedule", "get_timer")


@contextmanager
def event_loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """What runs coroutines on one loop, which ends as those of `asyncio.run` do."""
    loop = asyncio.new_event_loop()
    try:
        yield loop.run_until_complete
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def awaited(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the place of the calls that a module has imported, those that are awaited."""
    with event_loop() as run, monkeypatch.context() as patch:
        for name in CALLS:
            if hasattr(module, name):
                patch.setattr(module, name, _through(run, getattr(celery_redis_expiry, f"a{name}")))
        yield


def _through(
    run: Callable[[Coroutine[Any, Any, Any]], Any], function: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Any]:
    return lambda *args, **given: run(function(*args, **given))

"""Apps whose tasks run at once (`task_always_eager`): they have no timers, unless a test keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

from celery_redis_expiry.conf import setting

#: Apps whose timers are kept all the same, for `testing`.
_kept: WeakSet[Any] = WeakSet()
#: One for each test that runs.
_tests: list[Any] = []
_AS_IT_IS = nullcontext()


def runs_at_once(app: Any) -> bool:
    """Whether what is scheduled runs at once, and is no timer."""
    return bool(setting(app, "task_always_eager")) and app not in _kept


def is_kept(app: Any) -> bool:
    """Whether a test keeps the timers of this app."""
    return app in _kept


@contextmanager
def keeping(app: Any) -> Iterator[None]:
    """While it lasts the app has timers, even if its tasks run at once."""
    _kept.add(app)
    _tests.append(app)
    try:
        yield
    finally:
        _tests.remove(app)
        _kept.discard(app)


def sending_tasks(app: Any) -> AbstractContextManager[None]:
    """While it lasts the app sends its tasks, and runs none at once, if it is one whose timers are kept."""
    # every call that schedules comes by here: where no test runs it costs next to nothing
    if not _tests or app not in _kept or not app.conf.task_always_eager:
        return _AS_IT_IS
    return at_once(app, False)


@contextmanager
def at_once(app: Any, wanted: bool) -> Iterator[None]:
    """`task_always_eager` for a while."""
    before = app.conf.task_always_eager
    app.conf.task_always_eager = wanted
    try:
        yield
    finally:
        app.conf.task_always_eager = before

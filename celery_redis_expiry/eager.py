"""Apps whose tasks run at once (`task_always_eager`): they have no timers, unless a test keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

from celery_redis_expiry.conf import setting

#: Apps whose timers are kept all the same, for `testing`.
_kept: WeakSet[Any] = WeakSet()
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
    try:
        yield
    finally:
        _kept.discard(app)


def sending_tasks(app: Any) -> AbstractContextManager[None]:
    """While it lasts the app sends its tasks, and runs none at once, if it is one whose timers are kept."""
    return at_once(app, False) if _kept and app in _kept and app.conf.task_always_eager else _AS_IT_IS


@contextmanager
def at_once(app: Any, wanted: bool) -> Iterator[None]:
    """`task_always_eager` for a while."""
    before = app.conf.task_always_eager
    app.conf.task_always_eager = wanted
    try:
        yield
    finally:
        app.conf.task_always_eager = before

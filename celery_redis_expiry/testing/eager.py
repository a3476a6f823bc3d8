"""Countdowns of tasks that run at once (`task_always_eager`): Celery does not wait for them, and they are no
messages that could become timers. In a test with a clock those beyond `expiry_countdown_threshold` do.

`apply_async`, `retry` and the steps of a chain go other ways there than to `app.send_task`, so each is
wrapped while such a test runs. The members of a group or chord that runs at once are not waited for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery.app.task import Task
from celery.canvas import Signature, _chain
from celery.exceptions import Retry

from celery_redis_expiry.eager import is_kept, sending_tasks
from celery_redis_expiry.hooks import patch
from celery_redis_expiry.hooks.delays import due_beyond


@contextmanager
def countdowns_kept() -> Iterator[None]:
    """While it lasts, for apps whose timers are kept."""
    wrapped: list[tuple[Any, str, Callable[..., Any]]] = [
        (Task, "apply_async", _apply_async),
        (Task, "retry", _retry),
        (_chain, "apply_async", _chained),
    ]
    originals = [(owner, name, owner.__dict__[name]) for owner, name, _ in wrapped]
    for (owner, name, wrapper), (*_, original) in zip(wrapped, originals, strict=True):
        setattr(owner, name, _method(wrapper, original))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _method(wrapper: Callable[..., Any], original: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        app = self.app
        if not app.conf.task_always_eager or not is_kept(app):
            return original(self, *args, **options)
        return wrapper(original, app, self, *args, **options)

    # what lets pass what is being recorded: see `messages.own`
    method._wrapped_by = patch.__name__  # type: ignore[attr-defined]
    return method


def _apply_async(
    original: Callable[..., Any],
    app: Any,
    task: Any,
    args: Any = None,
    kwargs: Any = None,
    *more: Any,
    **options: Any,
) -> Any:
    if due_beyond(app, {"name": task.name, "task_type": task, **options}) is not None:
        with sending_tasks(app):
            return original(task, args, kwargs, *more, **options)
    rest = options.pop("chain", None)
    if not rest:
        return original(task, args, kwargs, *more, **options)
    # what comes next in a chain that waited; run at once a task knows of no next
    first = task.signature(args, kwargs, **options)
    return _chain(
        first, *(Signature.from_dict(step, app=app) for step in reversed(rest)), app=app
    ).apply_async()


def _retry(original: Callable[..., Any], app: Any, task: Any, *args: Any, **options: Any) -> Any:
    request = task.request
    asked = inspect.signature(original).bind(task, *args, **options).arguments
    countdown, eta = asked.get("countdown"), asked.get("eta")
    if countdown is None and not eta:
        countdown = task.default_retry_delay
    call = {"name": task.name, "task_type": task, "countdown": countdown, "eta": eta}
    if not request.is_eager or due_beyond(app, call) is None:
        return original(task, *args, **options)
    request.is_eager = False
    try:
        retry = original(task, *args, **options)
        retry.sig = None
        return retry
    except Retry as retry:
        # it is sent, and not to be run again here
        retry.sig = None
        raise
    finally:
        request.is_eager = True


def _chained(
    original: Callable[..., Any], app: Any, chain: Any, args: Any = None, kwargs: Any = None, **options: Any
) -> Any:
    steps = list(chain.tasks)
    waits = next((i for i, step in enumerate(steps) if _waits(app, step, options if i == 0 else {})), None)
    if waits is None:
        return original(chain, args, kwargs, **options)
    if waits == 0:
        with sending_tasks(app):
            return original(chain, args, kwargs, **options)
    before, after = _chain(*steps[:waits], app=app), _chain(*steps[waits:], app=app)
    done = before.apply_async(args, kwargs, **options)
    for name in ("link", "link_error"):
        if chain.options.get(name):
            after.options[name] = chain.options[name]
    if done.successful():
        with sending_tasks(app):
            result = after.apply_async((done.get(),))
        return result
    return done


def _waits(app: Any, step: Any, options: Mapping[str, Any]) -> bool:
    """Whether a step has a countdown of its own that makes it a timer."""
    call = {**step.get("options", {}), **options, "name": step.get("task")}
    return type(step) is Signature and due_beyond(app, call) is not None

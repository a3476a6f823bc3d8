"""Registering tasks for patterns of keys: kept per app, read by the expiry worker when it starts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from celery.canvas import Signature, chunks
from celery.local import Proxy

from celery_redis_expiry.arguments import app_of
from celery_redis_expiry.errors import InvalidHandler

#: What a handler may be told of.
EVENTS = ("expired", "deleted", "evicted")
#: How the package's own keys begin, after a prefix perhaps.
OWN = "{expiry."
LONGEST = 512

TaskType = TypeVar("TaskType")


@dataclass(frozen=True)
class Handler:
    """One task that is told of the keys that match a pattern.

    Attributes:
        pattern: as `PSUBSCRIBE` takes it.
        target: a task, or a signature.
        on: what it is told of.
        with_value: whether it is given the value as well.
        url: where the keys are; None for `expiry_watch_url`.
        field: a pattern of fields, where it is told of fields of hashes, and not of keys.
    """

    pattern: str | bytes
    target: Any = dataclasses.field(repr=False)
    on: frozenset[str]
    with_value: bool
    url: str | None = dataclasses.field(repr=False)
    field: str | bytes | None = None

    @property
    def signature(self) -> Signature:
        """What is to be sent, less the event."""
        # a task may be one of Celery's proxies, which is made when it is first used
        return self.target if isinstance(self.target, Signature) else self.target.s()


_handlers: WeakKeyDictionary[Any, list[Handler]] = WeakKeyDictionary()


def handlers_of(app: Any) -> list[Handler]:
    """What was registered for an app, in order."""
    return list(_handlers.get(app, ()))


@overload
def on_key_expired(
    pattern: str | bytes,
    /,
    *,
    app: Any = None,
    on: str | Collection[str] = ...,
    with_value: bool = ...,
    url: str | None = ...,
) -> Callable[[TaskType], TaskType]: ...


@overload
def on_key_expired(
    app: Any,
    pattern: str | bytes,
    signature: Any,
    /,
    *,
    on: str | Collection[str] = ...,
    with_value: bool = ...,
    url: str | None = ...,
) -> Any: ...


def on_key_expired(
    *arguments: Any,
    app: Any = None,
    on: str | Collection[str] = ("expired",),
    with_value: bool = False,
    url: str | None = None,
) -> Any:
    """Run a task when a key of your own expires.

    Either a decorator over a task, `@on_key_expired("session:*", app=app)`, or a call,
    `on_key_expired(app, "cart:*", task.s())`. The task gets a `KeyEvent`, before the arguments of its
    signature. Any number of patterns may have any number of tasks; where two patterns match a key, each
    pattern's task runs. The expiry worker reads what is registered when it starts.

    Arguments:
        pattern: of the keys, as `PSUBSCRIBE` takes it: `*`, `?`, `[ab]`, `\\` before what is meant literally.
        signature: a signature or a task; a canvas gets the event where it begins.
        app: the Celery app; default: the task's.
        on: what to be told of, `expired` (the default), `deleted`, `evicted`, or several of them.
        with_value: whether to be given a snapshot of the value that the key had.
        url: where the keys are, as in `expiry_watch_url`, which is the default.

    Returns:
        The task or signature, as it was given.

    Raises:
        InvalidHandler: an argument is unusable; says what to do.
    """
    if len(arguments) == 1 and isinstance(arguments[0], str | bytes):
        pattern = arguments[0]
        options = _checked(pattern, on, with_value, url)

        def register(task: TaskType) -> TaskType:
            _register(app, task, options)
            return task

        return register
    if len(arguments) == 3 and app is None:
        app, pattern, signature = arguments
        _register(app, signature, _checked(pattern, on, with_value, url))
        return signature
    raise InvalidHandler(
        'on_key_expired takes a pattern, as in @on_key_expired("session:*", app=app), '
        'or app, pattern and signature, as in on_key_expired(app, "session:*", task.s())'
    )


def on_field_expired(
    *arguments: Any,
    app: Any = None,
    url: str | None = None,
) -> Any:
    """Run a task when a field of a hash of your own expires (`HEXPIRE`, Redis 7.4 or later).

    Either a decorator, `@on_field_expired("cart:*", "item:*", app=app)`, or a call,
    `on_field_expired(app, "cart:*", "item:*", task.s())`. The task gets a `FieldEvent`. All else is as with
    `on_key_expired`.

    Arguments:
        pattern: of the keys.
        field: of the fields, alike.
        signature, app, url: as there.

    Returns:
        The task or signature, as it was given.

    Raises:
        InvalidHandler: an argument is unusable; says what to do.
    """
    if len(arguments) == 2 and all(isinstance(each, str | bytes) for each in arguments):
        options = _checked(arguments[0], ("expired",), False, url, arguments[1])

        def register(task: TaskType) -> TaskType:
            _register(app, task, options)
            return task

        return register
    if len(arguments) == 4 and app is None:
        app, pattern, field, signature = arguments
        _register(app, signature, _checked(pattern, ("expired",), False, url, field))
        return signature
    raise InvalidHandler(
        'on_field_expired takes two patterns, as in @on_field_expired("cart:*", "item:*", app=app), '
        'or app, patterns and signature, as in on_field_expired(app, "cart:*", "item:*", task.s())'
    )


def _register(app: Any, target: Any, options: dict[str, Any]) -> None:
    # to ask one of Celery's proxies what it is would make the task, perhaps before its app is configured
    if not issubclass(type(target), Proxy):
        if not isinstance(target, Signature) and not hasattr(target, "s"):
            hint = ": put @on_key_expired above @app.task, not below" if callable(target) else ""
            raise InvalidHandler(f"a handler must be a task or a signature, not {target!r}{hint}")
        if isinstance(target, chunks):
            raise InvalidHandler("chunks bring their own arguments and take no event: give a group")
    if app is None:
        app = getattr(target, "app", None)
    app = app_of(app)
    _handlers.setdefault(app, []).append(Handler(target=target, **options))


def _checked(pattern: Any, on: Any, with_value: Any, url: Any, field: Any = None) -> dict[str, Any]:
    if not isinstance(pattern, str | bytes) or not pattern:
        raise InvalidHandler(f"pattern must be text (or bytes) of at least one character, not {pattern!r}")
    if len(pattern) > LONGEST:
        raise InvalidHandler(f"the pattern has {len(pattern)} characters, at most {LONGEST} are allowed")
    text = pattern if isinstance(pattern, str) else pattern.decode(errors="surrogateescape")
    if OWN in re.split(r"[*?\[]", text)[0].replace("\\", ""):
        raise InvalidHandler(
            f"{pattern!r} means keys of celery-redis-expiry itself: to be told of a timer, give it a task"
        )
    kinds = frozenset([on] if isinstance(on, str) else on)
    if not kinds or not kinds <= set(EVENTS):
        raise InvalidHandler(f"on must be one or several of {', '.join(EVENTS)}, not {on!r}")
    if not isinstance(with_value, bool):
        raise InvalidHandler(f"with_value must be True or False, not {with_value!r}")
    if url is not None and not isinstance(url, str):
        raise InvalidHandler(f"url must be the URL of a Redis, not {type(url).__name__}")
    if field is not None and (not isinstance(field, str | bytes) or not field):
        raise InvalidHandler(f"field must be text (or bytes) of at least one character, not {field!r}")
    return {"field": field, "pattern": pattern, "on": kinds, "with_value": with_value, "url": url}

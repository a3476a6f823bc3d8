"""Plain signatures: Celery's own `apply_async` runs against a producer that keeps the message.

So routing, serialization, stamps, `before_task_publish` and the rest are Celery's, and happen at schedule
time, as they do with `countdown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any
from weakref import WeakKeyDictionary

from celery.backends.base import Backend
from celery.canvas import Signature
from celery.result import AsyncResult
from celery.utils import uuid
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.entity import Exchange
from kombu.messaging import Producer
from kombu.utils.json import dumps

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages.entities import describe, restore
from celery_redis_expiry.messages.prepared import Prepared, checked_id
from celery_redis_expiry.timer import Stored, as_datetime

#: What concerns the sending only, and not the message.
SENDING = (
    "serializer",
    "compression",
    "retry",
    "retry_policy",
    "timeout",
    "confirm_timeout",
    "declare",
    "mandatory",
    "immediate",
)


class Recorder(Producer):
    """A producer that keeps what it is given. Its connection is never opened."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, auto_declare=False)
        self.recorded: list[tuple[Any, dict[str, Any]]] = []

    def publish(self, body: Any, **arguments: Any) -> None:
        self.recorded.append((body, arguments))

    @property
    def events(self) -> list[tuple[Any, dict[str, Any]]]:
        """What came after the message: task-sent events."""
        return self.recorded[1:]

    def serialize(self, body: Any, arguments: dict[str, Any]) -> tuple[Any, str, str]:
        """Body, content type and encoding as `kombu.Producer.publish` would have them."""
        serialized: tuple[Any, str, str] = self._prepare(
            body,
            arguments.get("serializer"),
            arguments.get("content_type"),
            arguments.get("content_encoding"),
            arguments.get("compression"),
            arguments["headers"],
        )
        return serialized


def record(signature: Signature, app: Any, *, may_block: bool = True) -> Prepared:
    signature = signature.clone()
    task = app.tasks.get(signature.task)
    options = signature.options
    id = checked_id(options.get("task_id")) or uuid()
    expires = options.get("expires", task.expires if task else None)
    relative = isinstance(expires, Real)
    if relative:
        _check_expires(expires, app)
        options["expires"] = None
    ignored = options.get("ignore_result", task.ignore_result if task else None)
    recorder = recorder_of(app)
    # ignore_result spares the subscription that a Redis result backend makes for each call, which would
    # stay open until the task has run: days, here. The header gets its true value back when it is kept.
    result = signature.apply_async(task_id=id, producer=recorder, ignore_result=True)
    if not recorder.recorded:
        raise InvalidTimer(f"{signature.task} sent no message: its apply_async can't be recorded")
    stored = keep(recorder, app, id, signature.task, ignored=ignored, expires=expires if relative else None)
    if not ignored:
        await_result(app, id, may_block=may_block)
    # an apply_async of the user's own may return anything
    result = result if isinstance(result, AsyncResult) else app.AsyncResult(id)
    return Prepared(stored, result, bool(ignored), recorder.events)


def keep(recorder: Recorder, app: Any, id: str, task: str, *, ignored: Any, expires: Any = None) -> Stored:
    """What is stored of the message that was recorded.

    Arguments:
        ignored: what its header is to say of `ignore_result`.
        expires: seconds after the due time; None where the message says itself when it expires.
    """
    body, arguments = recorder.recorded[0]
    headers = dict(arguments.get("headers") or {})
    if "ignore_result" in headers:
        headers["ignore_result"] = ignored
    arguments["headers"] = headers
    if not awaits_call(app.backend) and arguments.get("reply_to") == app.thread_oid:
        # the thread's queue for replies, which nobody reads: messages of all threads shall have one template
        arguments["reply_to"] = app.oid
    payload, content_type, content_encoding = recorder.serialize(body, arguments)
    exchange = arguments.get("exchange")
    content = content_of(
        task,
        payload,
        {
            **{name: value for name, value in arguments.items() if name not in SENDING and value is not None},
            "content_type": content_type,
            "content_encoding": content_encoding,
            "exchange": exchange.name if isinstance(exchange, Exchange) else exchange,
        },
        arguments.get("declare") or (),
        app,
    )
    if expires is not None:
        content["expires"] = float(expires)
    _check_storable(content, task)
    return Stored(id, content)


def content_of(
    task: str, payload: Any, arguments: dict[str, Any], declare: Iterable[Any], app: Any
) -> dict[str, Any]:
    """A message as it is stored.

    Arguments:
        payload: its body, serialized.
        arguments: of `kombu.Producer.publish`, those that make the message.
        declare: the entities that are to be declared before.
    """
    return {
        "kind": "message",
        "task": task,
        "body": payload,
        "declare": [describe(entity, app) for entity in declare],
        "arguments": arguments,
    }


_connections: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def recorder_of(app: Any) -> Recorder:
    return Recorder(unopened_connection(app))


def unopened_connection(app: Any) -> Any:
    """The connection that recorders pretend to use: made once, since that takes longer than the rest."""
    connection = _connections.get(app)
    if connection is None:
        connection = _connections[app] = app.connection_for_write()
    return connection


def _check_expires(expires: Any, app: Any) -> None:
    if isinstance(expires, bool) or not math.isfinite(expires) or expires < 0:
        raise InvalidTimer(f"expires must be seconds of at least 0, or a datetime, not {expires!r}")
    if app.conf.task_protocol == 1:
        raise InvalidTimer(
            "expires in seconds counts from the due time, which task_protocol 1 can't carry: "
            "use task_protocol 2, or a datetime"
        )


def await_result(app: Any, id: str, producer: Any = None, *, may_block: bool = True) -> None:
    """What `apply_async` does so that a result can come back.

    Arguments:
        producer: to declare a reply queue by; default: one of the app's pool.
        may_block: see `prepare`.

    Raises:
        InvalidTimer: it can only block, and must not.
    """
    if not awaits_call(app.backend):
        return
    if not may_block:
        # another thread could not do it either: the queue of `rpc` is the calling thread's own
        raise InvalidTimer(
            f"the result backend {type(app.backend).__name__} speaks to its server for every task that "
            "is called and would hold the event loop up: give the signature ignore_result=True, or call "
            "schedule_on_expiry in a thread"
        )
    with app.producer_or_acquire(producer) as acquired:
        app.backend.on_task_call(acquired, id)


def awaits_call(backend: Any) -> bool:
    """Whether a result backend must be told of each call, so that a result can come back.

    The `rpc` backend must have its reply queue before the task runs. The Redis backend's subscription can
    wait until somebody asks for the result: it lies under its key.
    """
    if type(backend).on_task_call is Backend.on_task_call:
        return False
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return True
    return not isinstance(backend, RedisBackend)


def _check_storable(content: dict[str, Any], task: str) -> None:
    try:
        dumps(content)
    except (TypeError, ValueError) as exc:
        raise InvalidTimer(f"the headers or options of {task} can't be stored: {exc}") from exc


def message(content: dict[str, Any], due: int, app: Any) -> tuple[Any, dict[str, Any]]:
    """The body and the arguments of `kombu.Producer.publish` for a recorded message at its due time.

    Arguments:
        due: ms since the epoch, on Redis's clock; a number in `expires` counts from it.
    """
    if content.get("kind") != "message":
        raise ValueError(f"its kind is {content.get('kind')!r}, which this release does not know")
    # Celery gives none where nobody asked for one; kombu's own is 0
    arguments = {"priority": None, **content["arguments"]}
    for name in ("exchange", "routing_key", "correlation_id"):
        if not isinstance(arguments.get(name, ""), str):
            raise TypeError(f"its {name} is no text: {arguments[name]!r}")
    headers = arguments["headers"] = dict(arguments.get("headers") or {})
    expires = content.get("expires")
    if expires is not None:
        headers["expires"] = as_datetime(due + round(expires * 1000)).isoformat()
        arguments["expiration"] = expires
    elif arguments.get("expiration") is not None and headers.get("expires"):
        # recorded as counted from the scheduling; what has expired by now is for a worker to revoke, where a
        # broker would drop it without a word
        left = timestamp(headers["expires"], app) - due / 1000
        arguments["expiration"] = left if left > 0 else None
    arguments["declare"] = [
        entity
        for entity in (restore(each, app) for each in content.get("declare") or ())
        if entity is not None
    ]
    return content["body"], arguments


def timestamp(iso: str, app: Any) -> float:
    """Seconds since the epoch of a time as Celery writes it; a naive one is in `app.timezone`."""
    moment: float = maybe_make_aware(maybe_iso8601(iso), app.timezone).timestamp()
    return moment

"""From a signature to what is stored, and from what is stored to a message at its due time.

A plain signature is recorded: Celery's own `apply_async` runs against a producer that keeps the message
instead of sending it. So routing, serialization, stamps, `before_task_publish` and the rest are Celery's,
and happen at schedule time, as they do with `countdown`. A canvas can't be recorded (it publishes through
other producers and writes to the result backend), so it is stored as a signature and applied when due.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from celery import signature as as_signature
from celery.backends.base import Backend
from celery.canvas import Signature, _chain, _chord, chunks, group
from celery.utils import uuid
from kombu import Exchange, Producer, Queue
from kombu.entity import binding
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.timer import Stored, as_datetime

#: Options that would change where or when the message goes, beside the timer's own.
FORBIDDEN = {
    "countdown": "give the delay as seconds=",
    "eta": "give the time as at=",
    "connection": "a connection can't be stored; the message goes to the app's broker",
    "producer": "a producer can't be stored; the message goes to the app's broker",
    "publisher": "a producer can't be stored; the message goes to the app's broker",
}

#: What concerns the sending only, and not the message.
SENDING = ("serializer", "compression", "retry", "retry_policy", "timeout", "confirm_timeout", "declare")

PICKLES = ("pickle", "application/x-python-serialize")


@dataclass
class Prepared:
    """A signature made ready for the store.

    Attributes:
        stored: what to keep.
        result: the result as Celery gives it: an AsyncResult or a GroupResult.
        events: task-sent events that Celery wanted to publish: (body, arguments of `publish`).
    """

    stored: Stored
    result: Any
    events: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)


class _Recorder(Producer):
    """A producer that keeps what it is given. Its connection is never opened."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, auto_declare=False)
        self.recorded: list[tuple[Any, dict[str, Any]]] = []

    def publish(self, body: Any, **arguments: Any) -> None:
        self.recorded.append((body, arguments))

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


def is_canvas(signature: Signature) -> bool:
    return isinstance(signature, group | _chain | _chord | chunks)


def prepare(signature: Signature, app: Any) -> Prepared:
    """Make a signature ready for the store.

    Raises:
        InvalidTimer: it can't be kept for later; says why and what to do.
    """
    for option, remedy in FORBIDDEN.items():
        if signature.options.get(option) is not None:
            raise InvalidTimer(f"the signature carries {option}: a timer has one due time, {remedy}")
    try:
        return _prepare_canvas(signature, app) if is_canvas(signature) else _record(signature, app)
    except EncodeError as exc:
        raise InvalidTimer(f"the arguments of {signature.task} can't be serialized: {exc}") from exc


def _record(signature: Signature, app: Any) -> Prepared:
    signature = signature.clone()
    task = app.tasks.get(signature.task)
    options = signature.options
    id = options.get("task_id") or uuid()
    expires = options.get("expires", task.expires if task else None)
    relative = isinstance(expires, Real)
    if relative:
        _check_expires(expires, app)
        options["expires"] = None
    ignored = options.get("ignore_result", task.ignore_result if task else None)
    recorder = _Recorder(app.connection_for_write())
    # ignore_result spares the subscription that a Redis result backend makes for each call, which would
    # stay open until the task has run: days, here. The header gets its true value back below.
    result = signature.apply_async(task_id=id, producer=recorder, ignore_result=True)
    if not recorder.recorded:
        raise InvalidTimer(f"{signature.task} sent no message: its apply_async can't be recorded")
    (body, arguments), *events = recorder.recorded
    headers = dict(arguments.get("headers") or {})
    if "ignore_result" in headers:
        headers["ignore_result"] = ignored
    arguments["headers"] = headers
    if not ignored:
        _await_result(app, id)
    result.ignored = bool(ignored)

    payload, content_type, content_encoding = recorder.serialize(body, arguments)
    exchange = arguments.get("exchange")
    content: dict[str, Any] = {
        "kind": "message",
        "task": signature.task,
        "body": payload,
        "declare": [_describe(entity, app) for entity in arguments.get("declare") or ()],
        "arguments": {
            **{name: value for name, value in arguments.items() if name not in SENDING and value is not None},
            "content_type": content_type,
            "content_encoding": content_encoding,
            "exchange": exchange.name if isinstance(exchange, Exchange) else exchange,
        },
    }
    if relative:
        content["expires"] = float(expires)
    _check_storable(content, signature)
    return Prepared(Stored(id, content), result, events)


def _check_expires(expires: Any, app: Any) -> None:
    if isinstance(expires, bool) or not math.isfinite(expires) or expires < 0:
        raise InvalidTimer(f"expires must be seconds of at least 0, or a datetime, not {expires!r}")
    if app.conf.task_protocol == 1:
        raise InvalidTimer(
            "expires in seconds counts from the due time, which task_protocol 1 can't carry: "
            "use task_protocol 2, or a datetime"
        )


def _await_result(app: Any, id: str) -> None:
    """What `apply_async` does so that a result can come back.

    The `rpc` backend must have its reply queue before the task runs. The Redis backend's subscription can
    wait until somebody asks for the result: it lies under its key.
    """
    backend = app.backend
    if type(backend).on_task_call is Backend.on_task_call:
        return
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        pass
    else:
        if isinstance(backend, RedisBackend):
            return
    with app.producer_or_acquire() as producer:
        backend.on_task_call(producer, id)


def _prepare_canvas(signature: Signature, app: Any) -> Prepared:
    options: dict[str, Any] = {}
    if isinstance(signature, chunks):
        options["route_name"] = signature.kwargs["task"]["task"] if signature.kwargs.get("task") else None
        signature = signature.group()
    for leaf in _leaves(signature):
        if _serializer(leaf, app) in PICKLES:
            raise InvalidTimer(
                f"{leaf.get('task')} would be pickled: the expiry worker never unpickles, "
                "so a canvas must use a serializer such as json"
            )
    # a copy of its own: freezing writes task ids into the signature, and the caller's may be used again
    copy = as_signature(_round_trip(signature), app=app)
    parent = app.current_worker_task
    if parent is not None:
        options["root_id"] = parent.request.root_id or parent.request.id
        options["parent_id"] = parent.request.id
    result = copy.freeze(
        _id=copy.options.get("task_id"),
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
    )
    if parent is not None:
        parent.add_trail(result)
    content = {
        "kind": "canvas",
        "task": copy.task,
        "signature": _round_trip(copy),
        "options": {name: value for name, value in options.items() if value is not None},
    }
    return Prepared(Stored(result.id, content), result)


def _round_trip(signature: Signature) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = loads(dumps(signature))
    except (TypeError, ValueError) as exc:
        raise InvalidTimer(f"the arguments of {signature.task} can't be serialized to JSON: {exc}") from exc
    return copied


def _leaves(value: Any) -> list[Mapping[str, Any]]:
    """Every signature of a canvas that is a task of its own."""
    if isinstance(value, Mapping):
        if "task" in value and "subtask_type" in value and value.get("subtask_type") is None:
            return [value]
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return []


def _serializer(leaf: Mapping[str, Any], app: Any) -> Any:
    task = app.tasks.get(leaf.get("task"))
    chosen = (leaf.get("options") or {}).get("serializer") or (task.serializer if task else None)
    return chosen or app.conf.task_serializer


def _check_storable(content: dict[str, Any], signature: Signature) -> None:
    try:
        dumps(content)
    except (TypeError, ValueError) as exc:
        raise InvalidTimer(f"the headers or options of {signature.task} can't be stored: {exc}") from exc


def _describe(entity: Any, app: Any) -> Any:
    """A queue by its name where the app knows it just so, else in full."""
    if isinstance(entity, Queue):
        known = dict(app.amqp.queues).get(entity.name)
        if known is not None and known.as_dict(recurse=True) == entity.as_dict(recurse=True):
            return entity.name
        return {"queue": entity.as_dict(recurse=True)}
    return {"exchange": entity.as_dict(recurse=True)}


def _restore(description: Any, app: Any) -> Any:
    if isinstance(description, str):
        # what this worker's configuration does not know was declared by those who scheduled
        return dict(app.amqp.queues).get(description)
    if "exchange" in description:
        return _exchange(description["exchange"])
    attributes = dict(description["queue"])
    attributes["exchange"] = _exchange(attributes.get("exchange"))
    attributes["bindings"] = [
        binding(_exchange(each.pop("exchange")), **each)
        for each in map(dict, attributes.get("bindings") or ())
    ]
    return Queue(**attributes)


def _exchange(attributes: Mapping[str, Any] | None) -> Exchange | None:
    return Exchange(**attributes) if attributes else None


def message(content: dict[str, Any], due: int, app: Any) -> tuple[Any, dict[str, Any]]:
    """The body and the arguments of `kombu.Producer.publish` for a recorded message at its due time.

    Arguments:
        due: ms since the epoch, on Redis's clock; a number in `expires` counts from it.
    """
    arguments = dict(content["arguments"])
    headers = arguments["headers"] = dict(arguments.get("headers") or {})
    expires = content.get("expires")
    if expires is not None:
        headers["expires"] = as_datetime(due + round(expires * 1000)).isoformat()
        arguments["expiration"] = expires
    elif arguments.get("expiration") is not None and headers.get("expires"):
        # recorded as counted from the scheduling
        arguments["expiration"] = max(0.0, _timestamp(headers["expires"], app) - due / 1000)
    arguments["declare"] = [
        entity
        for entity in (_restore(each, app) for each in content.get("declare") or ())
        if entity is not None
    ]
    return content["body"], arguments


def _timestamp(iso: str, app: Any) -> float:
    from celery.utils.time import maybe_iso8601, maybe_make_aware

    moment: float = maybe_make_aware(maybe_iso8601(iso), app.timezone).timestamp()
    return moment


def apply_canvas(content: dict[str, Any], app: Any) -> None:
    """Apply a stored canvas now: several messages, under the task ids of schedule time."""
    as_signature(content["signature"], app=app).apply_async(**content["options"])

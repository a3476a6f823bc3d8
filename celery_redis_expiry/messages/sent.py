"""A message that was sent with an ETA, as what is stored of a timer: the same as if it had been recorded.

Its body stays as it is, whatever serialized it: nothing is unpickled. Only a message of task protocol 1 has
its ETA in there, and is read if it is JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kombu.utils.json import dumps, loads

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages.prepared import checked_id
from celery_redis_expiry.messages.recording import content_of, timestamp
from celery_redis_expiry.timer import Stored

#: Properties that belong to one delivery, and not to the message.
OF_A_DELIVERY = ("delivery_info", "delivery_tag", "body_encoding")


@dataclass(frozen=True)
class Sent:
    """A message as a broker has it.

    Attributes:
        queue: in which it lies, or lay.
        exchange, routing_key: with which it was published.
        headers: as the user has them, Celery's among them.
        properties: those of AMQP.
    """

    queue: str
    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]


def timer_of(sent: Sent, app: Any) -> tuple[Stored, int] | None:
    """What is to be stored of a message, and when it is due, in ms since the epoch; None if it has no ETA.

    Raises:
        InvalidTimer: it is no task's, or can't be kept for later.
    """
    headers, payload = dict(sent.headers), _text(sent)
    if "task" in headers:
        task, id, eta = headers["task"], headers.get("id"), headers.get("eta")
        headers["eta"] = None
    else:
        body = _protocol_1(payload, sent)
        task, id, eta = body.get("task"), body.get("id"), body.get("eta")
        payload = dumps({**body, "eta": None})
    if eta is None:
        return None
    checked = checked_id(id)
    if not isinstance(task, str) or checked is None:
        raise InvalidTimer("it names no task, or has no task id")
    try:
        due = math.ceil(timestamp(eta, app) * 1000)
    except Exception as exc:
        raise InvalidTimer(f"its ETA {eta!r} can't be read") from exc
    return Stored(
        checked, content_of(task, payload, _arguments(sent, headers), _declared(sent, app), app)
    ), due


def _text(sent: Sent) -> Any:
    """The body as `kombu.Producer.publish` had it: text, or bytes where it is none."""
    if sent.content_encoding == "binary" or sent.headers.get("compression"):
        return sent.body
    try:
        return sent.body.decode(sent.content_encoding)
    except (LookupError, UnicodeDecodeError):
        return sent.body


def _protocol_1(payload: Any, sent: Sent) -> Mapping[str, Any]:
    if sent.content_type != "application/json" or not isinstance(payload, str):
        raise InvalidTimer(f"it is no message of task protocol 2, and its body is {sent.content_type}")
    try:
        body = loads(payload)
    except ValueError as exc:
        raise InvalidTimer(f"its body is no JSON: {exc}") from exc
    if not isinstance(body, Mapping) or "task" not in body:
        raise InvalidTimer("it is no task's")
    return body


def _arguments(sent: Sent, headers: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `kombu.Producer.publish` that make the same message again."""
    properties = {
        name: value
        for name, value in sent.properties.items()
        if name not in OF_A_DELIVERY and value is not None
    }
    if not properties.get("priority"):
        properties.pop("priority", None)  # kombu writes 0 where none was given
    if "expiration" in properties:
        properties["expiration"] = int(properties["expiration"]) / 1000  # ms in the message
    return {
        **properties,
        "headers": headers,
        "content_type": sent.content_type,
        "content_encoding": sent.content_encoding,
        "exchange": sent.exchange,
        "routing_key": sent.routing_key,
    }


def _declared(sent: Sent, app: Any) -> list[Any]:
    """The queue, as Celery declares it before it sends there."""
    try:
        return [app.amqp.queues[sent.queue]]
    except KeyError:
        return []  # not configured, and `task_create_missing_queues` is off

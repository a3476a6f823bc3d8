"""What tests look at: timers that wait, and timers that fired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from celery.canvas import Signature
from kombu.serialization import loads, prepare_accept_content

from celery_redis_expiry.timer import Timer


@dataclass(frozen=True)
class Call:
    """What a timer calls.

    Attributes:
        args, kwargs: of the task, as it will get them: a tuple that was sent as JSON is a list.
        canvas: the signature of a chain, group or chord, whose `args` are empty; else None.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    canvas: Signature | None = None
    embed: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class PendingTimer:
    """A timer that waits.

    Attributes:
        id: the task id that the task will run under.
        name: its name (`key=`), or None.
        task: the name of the task, or of the canvas type.
        args, kwargs: of the task, as it will get them: a tuple that was sent as JSON is a list.
        canvas: the signature of a chain, group or chord, whose `args` are empty; else None.
        due: when it fires, an aware datetime in UTC; None while parked, or waiting for a key.
        remaining: seconds until then; None where due is.
        timer: all else that is known of it, as `get_timer` has it.
    """

    id: str
    name: str | None
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    canvas: Signature | None
    due: datetime | None
    remaining: float | None
    timer: Timer = field(repr=False)


@dataclass(frozen=True)
class FiredTimer:
    """A timer that fired.

    Attributes:
        id, name, task, args, kwargs, canvas: as of a `PendingTimer`. An occurrence of a recurring timer has
            an id of its own, and the name of that timer, or where it has none its id.
        due: when it was due, an aware datetime in UTC.
        state: the state of the task after that, such as `SUCCESS`, `FAILURE` or `RETRY`; None where it is not
            known here: of a canvas that goes on, of a worker in another process.
        result: what the task returned, or the exception that it raised; of a group a list; else None.
    """

    id: str
    name: str | None
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    canvas: Signature | None
    due: datetime
    state: str | None = None
    result: Any = None


def call_of(content: Mapping[str, Any], app: Any) -> Call:
    """What a stored message calls.

    Raises:
        kombu.exceptions.ContentDisallowed: it is serialized by what the app does not accept.
    """
    if content["kind"] == "canvas":
        return Call(canvas=Signature.from_dict(content["signature"], app=app))
    arguments = content["arguments"]
    accepted = prepare_accept_content(app.conf.accept_content)
    body = loads(content["body"], arguments["content_type"], arguments["content_encoding"], accept=accepted)
    if isinstance(body, Mapping):
        # task_protocol 1
        embed = {"callbacks": body.get("callbacks"), "errbacks": body.get("errbacks")}
        return Call(tuple(body.get("args") or ()), dict(body.get("kwargs") or {}), embed=embed)
    args, kwargs, embed = body
    return Call(tuple(args), dict(kwargs), embed=dict(embed))

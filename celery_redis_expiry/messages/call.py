"""A call of `app.send_task` as it was made: recorded like a signature, but nothing of it is chosen anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import celery

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages.prepared import Prepared, checked_id
from celery_redis_expiry.messages.recording import (
    Recorder,
    await_result,
    keep,
    recorder_of,
    unopened_connection,
)

#: What the header says where the caller says nothing of ignore_result: since 5.7 the worker's task decides.
UNSAID = None if celery.VERSION[:2] >= (5, 7) else False


def record_call(send_task: Any, app: Any, call: Mapping[str, Any]) -> Prepared:
    """Record the message of a call without its delay.

    Celery's own code does it all but the sending, with every option as it was given; so a number in `expires`
    counts from the call, as with `countdown`.

    Arguments:
        send_task: `Celery.send_task` as Celery has it.
        call: its arguments by their names, its task id among them.

    Returns:
        What to keep, and the result as Celery made it. It is nobody's child yet.

    Raises:
        InvalidTimer: it can't be kept for later. Whatever Celery itself raises of such a call goes on.
    """
    id = str(checked_id(call["task_id"]))
    ignored = call.get("ignore_result", UNSAID)
    recorder = recorder_of(app)
    options = {
        **call,
        "task_id": id,
        "countdown": None,
        "eta": None,
        "producer": recorder,
        "publisher": None,
        "connection": None,
        "add_to_parent": False,
        # see `recording.record`
        "ignore_result": True,
    }
    result = send_task(app, **options)
    if not recorder.recorded:
        raise InvalidTimer(f"{call['name']} sent no message: its sending can't be recorded")
    stored = keep(recorder, app, id, str(call["name"]), ignored=ignored)
    if not ignored:
        await_result(app, id, producer_of(call))
    result.ignored = ignored
    return Prepared(stored, result, bool(ignored), recorder.events)


def producer_of(call: Mapping[str, Any]) -> Any:
    """The producer that a call brings along, or None."""
    return None if call.get("connection") else call.get("producer") or call.get("publisher")


def goes_elsewhere(app: Any, call: Mapping[str, Any]) -> bool:
    """Whether a call brings a connection or producer to another broker than the app's, where timers go.

    Canvases and beat bring one to the app's own.
    """
    producer = producer_of(call)
    if isinstance(producer, Recorder):
        # a timer is being recorded, by a task whose apply_async adds a countdown
        return True
    connection = call.get("connection") or getattr(producer, "connection", None)
    if connection is None:
        return producer is not None
    return _addresses(connection).isdisjoint(_addresses(unopened_connection(app)))


def _addresses(connection: Any) -> set[str]:
    """The brokers that a connection may go to: several where it has others to fail over to."""
    return set(connection.alt or [connection.as_uri(include_password=True)])

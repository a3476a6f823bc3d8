"""The occurrences of a recurring timer: its message once more, under a task id of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from celery import signature as as_signature
from celery.canvas import Signature, chunks
from kombu.utils.json import dumps

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages.canvas import is_canvas, leaves, prepare_canvas, round_trip
from celery_redis_expiry.messages.prepared import Prepared
from celery_redis_expiry.timer import Stored, as_datetime

#: Headers of every occurrence: the name of its recurring timer (as django-celery-beat has it, for
#: django-celery-results), when it was due, and how many before it were missed.
NAME, DUE, MISSED = "periodic_task_name", "expiry_due", "expiry_missed"
#: And of those whose end is awaited.
AWAITED = "expiry_awaited"


def recurring_content(prepared: Prepared, signature: Signature) -> dict[str, Any]:
    """What is stored of a message, or canvas, that is to be sent again and again.

    Raises:
        InvalidTimer: it can't be.
    """
    if signature.options.get("task_id") is not None:
        raise InvalidTimer(
            "a recurring timer has a task id of its own for each occurrence: leave task_id out"
        )
    content = {name: value for name, value in prepared.stored.content.items() if name != "trace"}
    if is_canvas(signature):
        # with task ids of each occurrence's own
        whole = signature.group() if isinstance(signature, chunks) else signature
        return {**content, "signature": round_trip(whole), "options": {}}
    headers = content["arguments"].get("headers") or {}
    if "id" not in headers:
        raise InvalidTimer(
            "a recurring timer needs messages of task_protocol 2: those of protocol 1 have their task id in "
            "the body"
        )
    return content


def occurrence(stored: Stored, label: str, id: str, due: int, missed: int, app: Any) -> Stored:
    """What is stored of one occurrence.

    Arguments:
        stored: the recurring timer.
        label: its name, else its task id.
        id: the task id of the occurrence.
        due: when it was due, ms since the epoch.
        missed: how many were missed before it.

    Raises:
        Exception: what is stored is damaged.
    """
    told: dict[str, Any] = {NAME: label, DUE: as_datetime(due).isoformat(), MISSED: missed}
    if stored.recurring is not None and stored.recurring.plan.bound is not None:
        told[AWAITED] = True
    if stored.content.get("kind") == "canvas":
        canvas = as_signature(stored.content["signature"], app=app)
        for leaf in leaves(canvas):
            leaf["options"]["headers"] = {**(leaf["options"].get("headers") or {}), **told}
        return prepare_canvas(canvas.set(task_id=id), app).stored
    arguments = stored.content["arguments"]
    headers = {**arguments["headers"], "id": id, "root_id": id, "parent_id": None, **told}
    return Stored(
        id, {**stored.content, "arguments": {**arguments, "headers": headers, "correlation_id": id}}
    )


#: What differs from one recording of a message to the next.
OF_A_RECORDING = ("id", "root_id", "parent_id", "origin")


def print_of(content: Mapping[str, Any], schedule: Mapping[str, Any], bound: int | None) -> str:
    """What a recurring timer is told by: two of the same call and schedule have the same."""
    message = {name: value for name, value in content.items() if name != "arguments"}
    arguments = dict(content.get("arguments") or {})
    headers = dict(arguments.pop("headers", None) or {})
    for name in OF_A_RECORDING:
        headers.pop(name, None)
    for name in ("correlation_id", "reply_to"):
        arguments.pop(name, None)
    whole = dumps([message, arguments, headers, dict(schedule), bound], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:24]


def occurrence_of(content: Mapping[str, Any]) -> str | None:
    """The label of the recurring timer whose occurrence this is; None of any other timer, and of a retry."""
    headers = _headers(content)
    if content.get("kind") == "canvas":
        first = next(iter(leaves(content["signature"])), {})
        headers = (first.get("options") or {}).get("headers") or {}
    if DUE not in headers or headers.get("retries"):
        return None
    label = headers.get(NAME)
    return label if isinstance(label, str) else None


def awaited_by(content: Mapping[str, Any]) -> str | None:
    """The label of the recurring timer that waits for this message's task to end; None where none does."""
    headers = _headers(content)
    label = headers.get(NAME) if headers.get(AWAITED) else None
    return label if isinstance(label, str) else None


def _headers(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of a message, {} where it has none."""
    arguments = content.get("arguments")
    headers = arguments.get("headers") if isinstance(arguments, Mapping) else None
    return headers if isinstance(headers, Mapping) else {}

"""A signature made ready for the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.timer import Stored


def checked_id(task_id: Any) -> str | None:
    """A task id of the user's own as text: it stands in keys."""
    if task_id is None:
        return None
    text = str(task_id)
    if not text or len(text) > 256 or not text.isprintable():
        raise InvalidTimer(f"task_id must be text of 1 to 256 printable characters, not {task_id!r}")
    return text


@dataclass
class Prepared:
    """A signature made ready for the store.

    Attributes:
        stored: what to keep.
        result: the result as Celery gave it: an AsyncResult or a GroupResult; None for a plain one.
        ignored: whether nobody wants the result.
        events: task-sent events that Celery wanted to publish: (body, arguments of `publish`).
    """

    stored: Stored
    result: Any = None
    ignored: bool = False
    events: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

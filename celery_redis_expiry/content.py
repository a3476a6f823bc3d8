"""What a stored message tells of itself, for people: nothing of it is unpickled or run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from celery.canvas import Signature


class Told(NamedTuple):
    """What is shown of a stored message.

    Attributes:
        task: the name of the task, or of the canvas type.
        args, kwargs: as Celery tells them of a task (`argsrepr`); of a canvas `args` is its whole signature.
        queue: the queue it goes to, or the routing key where an exchange chooses; None for a canvas, which is
            routed when it is applied.
        priority: None where it has none.
        watch: the user's key that it waits for; None where it waits for a time.
        retries: how often its task was tried before.
    """

    task: str = "?"
    args: str = ""
    kwargs: str = ""
    queue: str | None = None
    priority: int | None = None
    watch: str | None = None
    retries: int = 0


def told(content: Mapping[str, Any]) -> Told:
    """Read what a stored message tells of itself; damaged parts of it are left out."""
    task = str(content.get("task", "?"))
    watch = _text(_mapping(content.get("watch")).get("key"))
    if content.get("kind") == "canvas":
        return Told(task, args=_signature(content.get("signature")), watch=watch)
    arguments = _mapping(content.get("arguments"))
    headers = _mapping(arguments.get("headers"))
    priority, retries = arguments.get("priority"), headers.get("retries")
    return Told(
        task,
        _text(headers.get("argsrepr")) or "",
        _text(headers.get("kwargsrepr")) or "",
        _queue(content.get("declare")) or _text(arguments.get("routing_key")),
        priority if isinstance(priority, int) else None,
        watch,
        retries if isinstance(retries, int) else 0,
    )


def _queue(declared: Any) -> str | None:
    """The queue that is declared before publishing: its name, or its description (see messages.entities)."""
    for entity in declared if isinstance(declared, list) else ():
        if isinstance(entity, Mapping):
            entity = _mapping(entity.get("queue")).get("name")
        if isinstance(entity, str):
            return entity
    return None


def _signature(stored: Any) -> str:
    try:
        return repr(Signature.from_dict(stored))
    except Exception:
        return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

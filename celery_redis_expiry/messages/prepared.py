"""A signature made ready for the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from celery_redis_expiry.timer import Stored


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

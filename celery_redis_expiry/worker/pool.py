"""The pool called `expiry`: its worker turns expiries into messages, and runs no task."""

from __future__ import annotations

import os
from typing import Any

from celery.concurrency.base import BasePool


class TaskPool(BasePool):
    """A pool without processes or threads of its own; the bootstep keeps tasks away from it."""

    body_can_be_buffer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = 1

    def on_apply(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("an expiry worker runs no task: it must not consume a task queue")

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info.update({"implementation": "expiry", "max-concurrency": 0, "processes": [os.getpid()]})
        return info

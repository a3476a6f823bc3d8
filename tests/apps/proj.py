"""The project that the documentation speaks of, as `celery -A proj` finds it: its Redis is in PROJ_REDIS."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

TASKS = ("check_signup", "send_sms", "remind", "task", "a", "b", "c", "d")


def build(url: str, main: str = "proj") -> Celery:
    """An app of that name, broker and results in one Redis, with the tasks that the pages call."""
    app = Celery(main, broker=url, backend=url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    app.task(_add, name="proj.add", shared=False)
    for name in TASKS:
        app.task(_anything, name=name, shared=False)
    return app


def _add(x: int, y: int) -> int:
    return x + y


def _anything(*args: Any, **kwargs: Any) -> list[Any]:
    return list(args)


if "PROJ_REDIS" in os.environ:
    app = build(os.environ["PROJ_REDIS"])
    app.set_default()

"""The Celery app of every process in a run. Its one task writes each execution to the calm Redis.

A process builds it from the environment (CHAOS_APP, JSON): broker, ledger (URL of the calm Redis), runs (the
list that executions are written to), conf.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis
from celery import Celery
from celery.app.task import Task

VARIABLE = "CHAOS_APP"


def build(config: dict[str, Any]) -> Celery:
    app = Celery("chaos")
    app.conf.update(
        broker_url=config["broker"],
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
    )
    app.conf.update(config["conf"])
    ledger = redis.Redis.from_url(config["ledger"])

    @app.task(name="chaos.record", bind=True, shared=False)
    def record(self: Task, label: str) -> None:
        ledger.rpush(config["runs"], f"{time.time():.6f} {self.request.id} {label}")

    return app


if VARIABLE in os.environ:
    app = build(json.loads(os.environ[VARIABLE]))

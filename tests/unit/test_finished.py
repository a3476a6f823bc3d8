"""When the task of an occurrence counts as ended: as Celery itself tells of it."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject

from celery_redis_expiry.hooks import finished


@pytest.mark.parametrize(
    ("raised", "ended"),
    [
        (None, True),
        (ValueError("failed"), True),
        (Reject("for good", requeue=False), True),
        (Ignore(), True),
        # these come again, under the same task id
        (Reject("not now", requeue=True), False),
        ("retry", False),
    ],
    ids=repr,
)
def test_what_ends_it(monkeypatch: pytest.MonkeyPatch, raised: Any, ended: bool) -> None:
    app = Celery("finished", broker="memory://", set_as_current=False)
    told: list[tuple[str, str]] = []

    def tell(task: Any, request: Any, id: str) -> None:
        told.append((request.periodic_task_name, id))

    monkeypatch.setattr(finished, "finish", tell)

    @app.task(bind=True, shared=False)
    def task(self: Any) -> None:
        if raised == "retry":
            raise self.retry(countdown=1)
        if raised is not None:
            raise raised

    trace = build_tracer(task.name, task, app=app)
    headers = {"id": "an id", "periodic_task_name": "report", "expiry_awaited": True, "is_eager": False}
    trace("an id", (), {}, request={**headers, "called_directly": False, "delivery_info": {}})
    assert told == ([("report", "an id")] if ended else [])

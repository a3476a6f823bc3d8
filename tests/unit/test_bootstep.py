"""Which workers fire timers, and which refuse to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.solo import TaskPool as Solo

from celery_redis_expiry.worker import bootstep
from celery_redis_expiry.worker.bootstep import ExpiryStep
from celery_redis_expiry.worker.pool import TaskPool


def worker(pool: Any = Solo, **conf: Any) -> Any:
    app = Celery("worker", broker="redis://localhost:1/0", set_as_current=False)
    app.conf.update(conf)
    return SimpleNamespace(app=app, pool_cls=pool, hostname="worker@test", concurrency=4, steps=[])


@pytest.mark.parametrize(
    ("pool", "setting", "option", "fires"),
    [
        (Solo, None, None, False),
        (Solo, False, None, False),
        (Solo, True, None, True),
        (Solo, None, True, True),
        (Solo, False, True, True),
        (Solo, True, False, False),
        (TaskPool, None, None, True),
        (TaskPool, True, False, True),
    ],
)
def test_who_fires(pool: Any, setting: bool | None, option: bool | None, fires: bool) -> None:
    built = worker(pool, **({} if setting is None else {"expiry_in_worker": setting}))
    step = ExpiryStep(built, **({} if option is None else {"expiry": option}))
    assert step.include_if(built) is fires
    assert built.concurrency == (1 if pool is TaskPool else 4)
    assert bool(built.app.amqp.queues.consume_from) is (pool is not TaskPool)


def test_others_settings_are_read_by_who_was_asked() -> None:
    bad = worker(expiry_lease=1)
    assert ExpiryStep(bad).include(bad) is False
    with pytest.raises(SystemExit):
        ExpiryStep(bad, expiry=True).include(bad)


@pytest.mark.parametrize("environment", ["gevent", "eventlet"])
def test_greenlets_are_refused(
    environment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bootstep, "detect_environment", lambda: environment)
    built = worker()
    with pytest.raises(SystemExit):
        ExpiryStep(built, expiry=True).include(built)
    assert f"the pool {environment}: start a worker with -P expiry" in caplog.text
    assert built.steps == []

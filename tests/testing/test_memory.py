"""The store in memory: what fakeredis needs help with, and that it stays what it is for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import NotConfigured, get_timer, reschedule, schedule_on_expiry
from celery_redis_expiry.connections import forget_memory, parse
from celery_redis_expiry.store import Store, store_of
from celery_redis_expiry.worker.service import Service


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("memory", broker="memory://", set_as_current=False)
    app.conf.expiry_redis_url = "memory://of-a-test"

    @app.task(shared=False, name="task")
    def task(*args: Any) -> None: ...

    yield app
    forget_memory("of-a-test")


@pytest.fixture
def store(app: Celery) -> Store:
    return store_of(app)


def test_a_repeated_call_gets_its_answer_whatever_bytes_are_in_it(app: Celery, store: Store) -> None:
    """The members of plain task ids are any bytes, and answers are kept as JSON."""
    call = store.link.call

    async def twice(script: str, **given: Any) -> Any:
        first = await call(script, **given)
        return await call(script, **given) if script in ("schedule", "cancel") else first

    store.link.call = twice  # type: ignore[method-assign]
    # their bytes are random
    for _ in range(20):
        result = schedule_on_expiry(app.tasks["task"].s(1), 60)
        assert reschedule(result, 120)
        timer = get_timer(result)
        assert timer is not None
        assert (timer.id, 110 < (timer.remaining or 0) <= 120) == (result.id, True)
        assert result.cancel()
        assert store.counts() == {"waiting": 0, "parked": 0, "claimed": 0, "dead": 0}


def test_who_names_it_shares_it(app: Celery) -> None:
    other = Celery("memory", set_as_current=False)
    other.conf.expiry_redis_url = "memory://of-a-test"
    result = schedule_on_expiry(app.tasks["task"].s(1), 60)
    assert get_timer(result.id, app=other) is not None
    other = Celery("memory", set_as_current=False)
    other.conf.expiry_redis_url = "memory://another"
    assert get_timer(result.id, app=other) is None


def test_it_is_no_broker_of_timers() -> None:
    """Celery's own memory:// says nothing of where timers are."""
    app = Celery("memory", broker="memory://", backend="cache+memory://", set_as_current=False)
    with pytest.raises(NotConfigured, match="where is Redis"):
        store_of(app)
    assert parse("memory://", {}, None, "expiry_redis_url").memory == ""


def test_a_worker_refuses_it(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(NotConfigured, match="for tests, in the process that schedules"):
        Service(app, "worker", store_of(app)).start()

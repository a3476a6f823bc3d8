"""Recorded messages: what arrives is what `apply_async` would have sent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from kombu import Exchange, Queue
from kombu.utils.json import dumps, loads

from celery_redis_expiry.messages import message, prepare

DUE = 1_900_000_000_000


@pytest.fixture
def app() -> Celery:
    app = Celery("unit", broker="memory://", backend="cache+memory://", set_as_current=False)
    fast = Exchange("fast", type="topic")
    app.conf.task_queues = [Queue("celery"), Queue("fast", fast, routing_key="fast.#")]
    app.conf.task_routes = {"unit.routed": {"queue": "fast", "routing_key": "fast.lane"}}

    @app.task(shared=False, name="unit.task")
    def task(*args: object, **kwargs: object) -> None: ...

    @app.task(shared=False, name="unit.routed")
    def routed() -> None: ...

    options = {"priority": 3, "expires": 60, "time_limit": 9, "ignore_result": True, "serializer": "pickle"}

    @app.task(shared=False, name="unit.defaults", **options)
    def defaults() -> None: ...

    return app


def fire(app: Celery, signature: Any, due: int = DUE) -> tuple[Any, dict[str, Any]]:
    prepared = prepare(signature, app)
    return message(loads(dumps(prepared.stored.content)), due, app)


def test_routes_and_declarations(app: Celery) -> None:
    _, arguments = fire(app, app.tasks["unit.routed"].s())
    assert (arguments["exchange"], arguments["routing_key"]) == ("fast", "fast.lane")
    assert [queue.name for queue in arguments["declare"]] == ["fast"]


def test_a_queue_of_the_callers_own_is_declared_as_given(app: Celery) -> None:
    exchange = Exchange("own", type="topic", durable=False)
    queue = Queue("own", exchange, routing_key="o.*", queue_arguments={"x-max-priority": 5})
    _, arguments = fire(app, app.tasks["unit.task"].s().set(queue=queue))
    assert arguments["declare"][0].as_dict(recurse=True) == queue.as_dict(recurse=True)


def test_a_number_in_expires_counts_from_the_due_time(app: Celery) -> None:
    for signature in (app.tasks["unit.task"].s().set(expires=60), app.tasks["unit.defaults"].s()):
        _, arguments = fire(app, signature)
        assert datetime.fromisoformat(arguments["headers"]["expires"]).timestamp() == DUE / 1000 + 60
        assert arguments["expiration"] == 60


def test_a_moment_in_expires_stays(app: Celery) -> None:
    moment = datetime.fromtimestamp(DUE / 1000, timezone.utc) + timedelta(seconds=30)
    _, arguments = fire(app, app.tasks["unit.task"].s().set(expires=moment))
    assert datetime.fromisoformat(arguments["headers"]["expires"]) == moment
    assert arguments["expiration"] == pytest.approx(30)
    _, past = fire(app, app.tasks["unit.task"].s().set(expires=moment), DUE + 60_000)
    assert past["expiration"] is None  # a broker would drop it, and nobody would be told


def test_task_defaults(app: Celery) -> None:
    _, arguments = fire(app, app.tasks["unit.defaults"].s())
    assert arguments["priority"] == 3
    assert arguments["headers"]["timelimit"][0] == 9
    assert arguments["headers"]["ignore_result"] is True
    assert arguments["content_type"] == "application/x-python-serialize"
    assert prepare(app.tasks["unit.defaults"].s(), app).ignored


def test_the_ignore_result_header_is_the_users(app: Celery) -> None:
    assert not fire(app, app.tasks["unit.task"].s())[1]["headers"]["ignore_result"]
    assert fire(app, app.tasks["unit.task"].s().set(ignore_result=True))[1]["headers"]["ignore_result"]


def test_pickled_bytes_pass_untouched(app: Celery) -> None:
    body, arguments = fire(app, app.tasks["unit.task"].s({1, 2}).set(serializer="pickle", compression="zlib"))
    assert arguments["content_type"] == "application/x-python-serialize"
    assert arguments["headers"]["compression"] == "application/x-gzip"
    assert isinstance(body, bytes)


def test_a_signature_can_be_scheduled_twice(app: Celery) -> None:
    signature = app.tasks["unit.task"].s() | app.tasks["unit.task"].s()
    assert prepare(signature, app).stored.id != prepare(signature, app).stored.id
    assert "task_id" not in signature.options


def test_signals_fire_at_schedule_time(app: Celery) -> None:
    def stamp(headers: dict[str, Any], **_: Any) -> None:
        headers["trace"] = "abc"

    before_task_publish.connect(stamp)
    try:
        _, arguments = fire(app, app.tasks["unit.task"].s())
    finally:
        before_task_publish.disconnect(stamp)
    assert arguments["headers"]["trace"] == "abc"


def test_an_unregistered_task_is_sent_by_name(app: Celery) -> None:
    body, arguments = fire(app, app.signature("elsewhere.task", args=(1,)))
    assert arguments["headers"]["task"] == "elsewhere.task"
    assert loads(body)[0] == [1]

"""Which calls become timers: by their delay, their task, and where they go."""

from __future__ import annotations

import functools
import inspect
import math
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu import Connection, Producer
from kombu.message import Message

from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.hooks import patch, sending
from celery_redis_expiry.hooks.delays import due_beyond
from celery_redis_expiry.messages import goes_elsewhere
from celery_redis_expiry.messages.recording import recorder_of

DELAY = 3600
LATER = datetime.now(timezone.utc) + timedelta(hours=2)


def anything(*args: Any, **kwargs: Any) -> None: ...


@pytest.fixture
def app() -> Celery:
    app = Celery("unit", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.expiry_countdown_threshold = 60

    for name, options in {
        "task": {},
        "always": {"expiry": True},
        "never": {"expiry": False},
        "own": {"expiry": 3600},
    }.items():
        app.task(anything, name=f"unit.{name}", shared=False, **options)
    return app


# -- which


@pytest.mark.parametrize(
    ("countdown", "when"),
    [
        (61, "+61000"),
        (60.5, "+60500"),
        (timedelta(days=1).total_seconds(), "+86400000"),
        (60, None),
        (0, None),
        (-100, None),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ("3600", None),
        (timedelta(hours=1), None),
        (Fraction(7200, 2), None),
    ],
)
def test_by_countdown(app: Celery, countdown: Any, when: str | None) -> None:
    assert due_beyond(app, {"name": "unit.task", "countdown": countdown}) == when


def test_by_eta(app: Celery) -> None:
    def found(eta: Any) -> str | None:
        return due_beyond(app, {"name": "unit.task", "eta": eta})

    ms = f"={math.ceil(LATER.timestamp() * 1000)}"
    assert found(LATER) == found(LATER.isoformat()) == ms
    assert found(LATER.astimezone(timezone(timedelta(hours=5)))) == ms
    assert found(datetime.now(timezone.utc) + timedelta(seconds=59)) is None
    assert found(datetime.now(timezone.utc) - timedelta(days=1)) is None
    assert [found(bad) for bad in ("tomorrow", 17, object())] == [None] * 3
    # as Celery has it
    assert due_beyond(app, {"name": "unit.task", "eta": LATER, "countdown": 5}) is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("utc", [True, False])
def test_a_naive_eta_is_what_a_worker_takes_it_for(app: Celery, zone: str, utc: bool) -> None:
    app.conf.update(timezone=zone, enable_utc=utc)
    naive = LATER.replace(tzinfo=None, microsecond=0)
    recorder = recorder_of(app)
    app.send_task("unit.task", eta=naive, producer=recorder)
    [(_, arguments), *_] = recorder.recorded
    body = {"body": "[[], {}, {}]", "content_type": "application/json", "content_encoding": "utf-8"}
    received = Message(**body, headers=arguments["headers"], delivery_info={}, properties={})
    held = Request(received, app=app, hostname="w", task=app.tasks["unit.task"], utc=True).eta
    assert due_beyond(app, {"name": "unit.task", "eta": naive}) == f"={round(held.timestamp() * 1000)}"


def test_a_task_says_so_itself(app: Celery) -> None:
    def due(name: str, countdown: float, **more: Any) -> str | None:
        return due_beyond(app, {"name": name, "countdown": countdown, **more})

    assert due("unit.always", 1) == "+1000"
    assert due("unit.never", DELAY) is None
    assert due("unit.never", DELAY, task_type=app.tasks["unit.always"]) == "+3600000"
    # an attribute that means something else
    assert (due("unit.own", 61), due("unit.own", 60)) == ("+61000", None)
    app.conf.expiry_countdown_threshold = None
    assert due("unit.always", 1) == "+1000"
    assert due("unit.task", DELAY) is None
    assert due("elsewhere.task", DELAY) is None


def test_tasks_of_an_app_that_was_not_finalized() -> None:
    for autofinalize, when in ((True, "+5000"), (False, None)):
        app = Celery("unit", set_as_current=False, autofinalize=autofinalize)
        app.task(anything, name="unit.always", shared=False, expiry=True)
        assert due_beyond(app, {"name": "unit.always", "countdown": 5}) == when


@pytest.mark.parametrize("bad", [-1, "60", True, math.nan])
def test_an_unusable_threshold(app: Celery, bad: Any) -> None:
    app.conf.expiry_countdown_threshold = bad
    with pytest.raises(NotConfigured, match="expiry_countdown_threshold"):
        due_beyond(app, {"name": "unit.task", "countdown": DELAY})


def test_zero_is_for_all(app: Celery) -> None:
    app.conf.expiry_countdown_threshold = 0
    assert due_beyond(app, {"name": "unit.task", "countdown": 0.001}) == "+1"


# -- where to


def test_producers_and_connections_of_the_callers_own(app: Celery) -> None:
    with app.connection_for_write() as own, Connection("memory://elsewhere/other") as foreign:
        assert not goes_elsewhere(app, {})
        assert not goes_elsewhere(app, {"connection": own})
        assert not goes_elsewhere(app, {"producer": Producer(own)})
        assert not goes_elsewhere(app, {"publisher": Producer(own.channel())})
        with app.producer_pool.acquire() as pooled:
            assert not goes_elsewhere(app, {"producer": pooled})
        assert goes_elsewhere(app, {"connection": foreign})
        assert goes_elsewhere(app, {"producer": Producer(foreign)})
        # Celery prefers the connection
        assert not goes_elsewhere(app, {"producer": Producer(foreign), "connection": own})
    assert goes_elsewhere(app, {"producer": object()})
    assert goes_elsewhere(app, {"producer": recorder_of(app)})


def test_a_list_of_brokers(app: Celery) -> None:
    app = Celery("unit", broker="redis://a:1;redis://b:1", set_as_current=False)
    with app.connection_for_write() as own, Connection("redis://c:1") as foreign:
        own.maybe_switch_next()
        assert not goes_elsewhere(app, {"connection": own})
        assert goes_elsewhere(app, {"connection": foreign})


# -- what is wrapped


def test_a_celery_that_sends_otherwise_is_refused() -> None:
    class Unknown:
        def send_task(self, name: str, args: Any = None, countdown: Any = None) -> None: ...

    with pytest.raises(ImportError, match="send_task"):
        patch.wrap(Unknown, "send_task", sending.PARAMETERS, sending._send_task)


def test_any_parameter_may_be_given_by_its_place(app: Celery) -> None:
    """Also those that we do not name."""
    given: list[Any] = []
    original = Celery.send_task.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def noting(app: Any, *args: Any, **options: Any) -> None:
        given.append(inspect.signature(original).bind(app, *args, **options).arguments)

    places = list(inspect.signature(original).parameters)[1:-1]
    values: list[Any] = [f"the {place}" for place in places]
    values[places.index("countdown")], values[places.index("eta")] = 5, None
    sending._send_task(noting, app, *values)
    assert given == [{"self": app, **dict(zip(places, values, strict=True))}]

"""Bad input: an error of our own, naming the argument and the remedy, before anything is stored."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, chain, group

from celery_redis_expiry import InvalidTimer, NotConfigured, StoreUnavailable, schedule_on_expiry
from celery_redis_expiry.arguments import checked_when


@pytest.fixture
def app() -> Celery:
    # a port on which nothing listens: whatever reaches the store raises StoreUnavailable instead
    app = Celery("unit", broker="redis://127.0.0.1:1/0", set_as_current=False)

    @app.task(shared=False, name="unit.task")
    def task(*args: object) -> None: ...

    return app


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"seconds": -1}, "seconds"),
        ({"seconds": -0.001}, "seconds"),
        ({"seconds": math.nan}, "seconds"),
        ({"seconds": math.inf}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": "60"}, "seconds"),
        ({"seconds": 1e18}, "seconds"),
        ({"seconds": 10**400}, "seconds"),
        ({"seconds": timedelta(seconds=-1)}, "seconds"),
        ({}, "seconds"),
        ({"seconds": 1, "at": datetime.now(timezone.utc)}, "seconds"),
        ({"at": date(2030, 1, 1)}, "at"),
        ({"at": "2030-01-01"}, "at"),
        ({"seconds": 1, "key": ""}, "key"),
        ({"seconds": 1, "key": "x" * 257}, "key"),
        ({"seconds": 1, "key": "a\nb"}, "key"),
        ({"seconds": 1, "key": "a\x00b"}, "key"),
        ({"seconds": 1, "key": "a\ud800b"}, "key"),
        ({"seconds": 1, "key": b"bytes"}, "key"),
        ({"seconds": 1, "if_exists": "overwrite"}, "if_exists"),
    ],
)
def test_bad_arguments(app: Celery, arguments: dict, named: str) -> None:
    with pytest.raises(InvalidTimer, match=named):
        schedule_on_expiry(app.tasks["unit.task"].s(1), **arguments)


@pytest.mark.parametrize("signature", [None, 42, "unit.task", object(), {"no": "task"}, print])
def test_no_signature(signature: object) -> None:
    with pytest.raises(InvalidTimer, match="signature"):
        schedule_on_expiry(signature, 1)  # type: ignore[arg-type]


def test_a_task_instead_of_its_signature_gets_a_hint(app: Celery) -> None:
    with pytest.raises(InvalidTimer, match=r"did you mean task\.s"):
        schedule_on_expiry(app.tasks["unit.task"], 1)


@pytest.mark.parametrize(
    "options",
    [{"countdown": 5}, {"eta": datetime(2030, 1, 1)}, {"expires": -1}, {"expires": math.nan}],
)
def test_options_that_cannot_be_kept(app: Celery, options: dict) -> None:
    with pytest.raises(InvalidTimer, match=next(iter(options))):
        schedule_on_expiry(app.tasks["unit.task"].s(1).set(**options), 1)


def test_arguments_that_do_not_serialize(app: Celery) -> None:
    task = app.tasks["unit.task"]
    for signature in (task.s(object()), chain(task.s(object()), task.s()), group(task.s(object()), task.s())):
        with pytest.raises(InvalidTimer, match="serialized"):
            schedule_on_expiry(signature, 1)


def test_a_pickled_canvas_is_refused_and_a_pickled_task_is_not(app: Celery) -> None:
    task = app.tasks["unit.task"]
    pickled = task.s(1).set(serializer="pickle")
    with pytest.raises(InvalidTimer, match="pickle"):
        schedule_on_expiry(chain(task.s(1), pickled), 1)
    with pytest.raises(StoreUnavailable):  # as far as the store
        schedule_on_expiry(pickled, 1)


def test_unreachable_redis(app: Celery) -> None:
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/0 can't be reached"):
        schedule_on_expiry(app.tasks["unit.task"].s(1), 1)


def test_no_redis_configured() -> None:
    app = Celery("unit", broker="amqp://", set_as_current=False)

    @app.task(shared=False, name="t")
    def task() -> None: ...

    with pytest.raises(NotConfigured, match="expiry_redis_url"):
        schedule_on_expiry(task.s(), 1)


def test_naive_times_are_in_the_timezone_of_the_app(app: Celery) -> None:
    app.conf.timezone = "Asia/Tokyo"
    naive = datetime(2030, 1, 1, 12)
    assert checked_when(None, naive, app) == checked_when(
        None, naive.replace(tzinfo=ZoneInfo("Asia/Tokyo")), app
    )
    assert checked_when(None, naive, app) != checked_when(None, naive.replace(tzinfo=timezone.utc), app)


def test_delays_are_whole_milliseconds(app: Celery) -> None:
    assert checked_when(1.5, None, app) == "+1500"
    assert checked_when(timedelta(days=1), None, app) == "+86400000"
    assert checked_when(0, None, app) == "+0"


def test_always_eager_runs_at_once_without_redis(app: Celery) -> None:
    app.conf.task_always_eager = True
    ran = []

    @app.task(shared=False, name="eager")
    def task(value: int) -> None:
        ran.append(value)

    schedule_on_expiry(task.s(1), 86400, app=app)
    assert ran == [1]

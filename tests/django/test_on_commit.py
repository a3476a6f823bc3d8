"""`schedule_on_expiry(…, on_commit=True)`: with the transaction, or not at all."""

from __future__ import annotations

import sys
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from celery import chain, group
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test import Client, TestCase

from celery_redis_expiry import (
    InvalidTimer,
    NotConfigured,
    RecurringTimer,
    StoreUnavailable,
    TimerExists,
    get_timer,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.committing import sooner
from tests.django.urls import VIEWS
from tests.servers.processes import free_port
from tests.site import Site


def test_it_waits_for_the_commit(site: Site) -> None:
    with transaction.atomic():
        result = schedule_on_expiry(site.record(1), seconds=600, key="name", on_commit=True)
        assert (site.waiting(), result.timer, result.due) == (0, None, None)
    timer = get_timer("name")
    assert timer is not None
    assert timer.id == result.id
    assert result.cancel() is True


def test_a_recurring_timer_waits_for_it(site: Site) -> None:
    with transaction.atomic():
        made = schedule_on_expiry(site.record(1), every=600, key="name", on_commit=True)
        assert isinstance(made, RecurringTimer)
        assert (site.waiting(), made.timer) == (0, None)
        with pytest.raises(InvalidTimer, match="task_id"):
            schedule_on_expiry(site.record(1).set(task_id="mine"), every=600, on_commit=True)
    assert made.timer is not None
    assert made.timer.every == "every 10 minutes"
    with suppress(ZeroDivisionError), transaction.atomic():
        schedule_on_expiry(site.record(1), every=600, key="another", on_commit=True)
        1 / 0  # noqa: B018
    assert get_timer("another") is None


def test_a_rollback_leaves_none(site: Site) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        schedule_on_expiry(site.record(1), seconds=600, on_commit=True)
        1 / 0  # noqa: B018
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            schedule_on_expiry(site.record("inner"), seconds=600, key="inner", on_commit=True)
            1 / 0  # noqa: B018
        schedule_on_expiry(site.record("outer"), seconds=600, key="outer", on_commit=True)
    assert get_timer("inner") is None
    assert get_timer("outer") is not None
    assert site.waiting() == 1


def test_at_once_where_no_transaction_is_open(site: Site) -> None:
    first = schedule_on_expiry(site.record(1), seconds=600, key="name", on_commit=True)
    assert first.timer is not None
    kept = schedule_on_expiry(site.record(2), seconds=60, key="name", if_exists="keep", on_commit=True)
    assert kept.id == first.id
    with pytest.raises(TimerExists):
        schedule_on_expiry(site.record(3), seconds=60, key="name", if_exists="raise", on_commit=True)


def test_the_transaction_of_another_database(site: Site) -> None:
    with transaction.atomic(using="other"):
        schedule_on_expiry(site.record(1), seconds=600, key="default", on_commit=True)
        schedule_on_expiry(site.record(2), seconds=600, key="other", on_commit="other")
        assert get_timer("default") is not None
        assert get_timer("other") is None
    assert get_timer("other") is not None


@pytest.mark.parametrize("shape", ["chain", "group"])
def test_the_ids_of_a_canvas_are_known_at_once(site: Site, shape: str) -> None:
    members = [site.record(1), site.record(2)]
    with transaction.atomic():
        canvas = chain(members, app=site.app) if shape == "chain" else group(members, app=site.app)
        result = schedule_on_expiry(canvas, seconds=600, on_commit=True)
    assert result.timer is not None
    assert result.timer.id == result.id


def test_what_is_sent_is_what_was_given(site: Site) -> None:
    """What the caller does to its arguments before the commit changes nothing."""
    basket = ["tea"]
    with transaction.atomic():
        result = schedule_on_expiry(site.record(basket), seconds=600, on_commit=True)
        basket.append("honey")
    assert "honey" not in result.timer.args


def test_seconds_count_from_the_call(site: Site) -> None:
    with transaction.atomic():
        at_call = site.now()
        result = schedule_on_expiry(site.record(1), seconds=600, on_commit=True)
        called = site.now()
        time.sleep(0.3)
        before = site.now()
    committing = site.now() - before
    due = result.due.timestamp() - 600
    # what it takes to store it counts, what the transaction took before does not; ms are rounded
    assert at_call - 0.005 <= due <= called + committing + 0.005
    assert (sooner("+1000", 0.4), sooner("+1000", 2.0), sooner("=1000", 2.0)) == ("+600", "+0", "=1000")


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    yield
    VIEWS.clear()


@pytest.mark.usefixtures("atomic_requests")
def test_the_transaction_is_the_request(make_site: Callable[..., Site], site: Site) -> None:
    away = make_site(expiry_redis_url=f"redis://127.0.0.1:{free_port()}/0")

    def refer(site: Site, key: str, *, fails: bool = False) -> Callable[[], None]:
        def do() -> None:
            User.objects.create(username=key)
            schedule_on_expiry(site.record(key), seconds=600, key=key, on_commit=True)
            assert get_timer(key) is None
            if fails:
                raise ZeroDivisionError

        return do

    VIEWS.update(good=refer(site, "good"), bad=refer(site, "bad", fails=True), away=refer(away, "away"))
    client = Client(raise_request_exception=False)
    try:
        assert [client.get(f"/{name}").status_code for name in VIEWS] == [200, 500, 500]
        assert get_timer("good") is not None
        assert site.waiting() == 1
        # committed, though the answer says that something failed
        assert set(User.objects.values_list("username", flat=True)) == {"good", "away"}
    finally:
        User.objects.all().delete()


BAD: list[dict[str, Any]] = [
    {"seconds": -1},
    {"seconds": 1, "key": ""},
    {"seconds": 1, "if_exists": "sometimes"},
    {"seconds": 1, "on_commit": "nowhere"},
    {"seconds": 1, "on_commit": 1},
    {"seconds": 1, "on_commit": ""},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_input_is_refused_by_the_call(site: Site, bad: dict[str, Any]) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidTimer):
            schedule_on_expiry(site.record(1), **{"on_commit": True, **bad})
        with pytest.raises(InvalidTimer, match="serialized"):
            schedule_on_expiry(site.record(object()), seconds=1, on_commit=True)
        assert not connection.run_on_commit
        assert not connections["other"].run_on_commit


def test_redis_away_at_commit(
    make_site: Callable[..., Site], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Who commits is told, and the log names the timer: the data is committed all the same."""
    away = make_site(expiry_redis_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnavailable), transaction.atomic():
        result = schedule_on_expiry(away.record(1), seconds=600, key="name", on_commit=True)
    [line] = [line for line in caplog.records if getattr(line, "expiry_event", "") == "not_scheduled"]
    assert (line.expiry_timer, line.expiry_task_id, line.levelname) == ("name", result.id, "ERROR")
    caplog.clear()
    with pytest.raises(StoreUnavailable):
        schedule_on_expiry(away.record(1), seconds=600, on_commit=True)
    assert not [line for line in caplog.records if getattr(line, "expiry_event", "") == "not_scheduled"]


def test_a_name_that_is_taken_is_told_at_commit(site: Site) -> None:
    schedule_on_expiry(site.record(1), seconds=600, key="name")
    with pytest.raises(TimerExists), transaction.atomic():
        schedule_on_expiry(site.record(2), seconds=600, key="name", if_exists="raise", on_commit=True)


def test_no_redis_configured_is_told_by_the_call() -> None:
    from celery import Celery

    app = Celery("nowhere", broker="memory://", set_as_current=False)
    with transaction.atomic(), pytest.raises(NotConfigured, match="expiry_redis_url"):
        schedule_on_expiry(app.signature("task"), seconds=1, on_commit=True)


def test_eager_tasks_run_at_commit(make_site: Callable[..., Site]) -> None:
    site = make_site(task_always_eager=True)
    with transaction.atomic():
        result = schedule_on_expiry(site.record("eager"), seconds=600, on_commit=True)
        assert not site.runs()
    [run] = site.runs()
    assert run["request"]["id"] == result.id
    assert schedule_on_expiry(site.record("now"), seconds=600, on_commit=True).get() == "now"


def test_without_django(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.db", None)
    with pytest.raises(NotConfigured, match="not installed"):
        schedule_on_expiry(site.record(1), seconds=1, on_commit=True)
    assert schedule_on_expiry(site.record(1), seconds=600).timer is not None


def test_a_bulk_has_no_such_items(site: Site) -> None:
    summary = schedule_many_on_expiry([{"signature": site.record(1), "seconds": 1, "on_commit": True}])
    [bad] = summary.errors
    assert "on_commit" in str(bad.error)


def test_what_a_test_of_a_users_own_sees(site: Site) -> None:
    """TestCase rolls all back, so nothing is stored unless the test says so."""

    class Refer(TestCase):
        def runTest(self) -> None:
            with self.captureOnCommitCallbacks() as callbacks:
                schedule_on_expiry(site.record("seen"), seconds=600, key="seen", on_commit=True)
            assert len(callbacks) == 1
            with self.captureOnCommitCallbacks(execute=True):
                schedule_on_expiry(site.record("stored"), seconds=600, key="stored", on_commit=True)

    outcome = unittest.TestResult()
    unittest.TestSuite([Refer()]).run(outcome)
    assert outcome.testsRun == 1
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors
    assert get_timer("seen") is None
    assert get_timer("stored") is not None

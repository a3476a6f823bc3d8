"""A Django project's tests: timers that are kept when a transaction commits, and fired by the clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from django.db import transaction
from django.utils import timezone

from celery_redis_expiry import schedule_on_expiry
from celery_redis_expiry.testing import ExpiryClock, expiry_clock_of

ran: list[tuple[int, int]] = []


@pytest.fixture
def app() -> Celery:
    app = Celery("of-django", set_as_current=False)
    app.conf.task_always_eager = True
    began = timezone.now()

    @app.task(shared=False, name="note")
    def note(label: int) -> None:
        ran.append((label, round((timezone.now() - began).total_seconds())))

    ran.clear()
    return app


@pytest.fixture
def clock(app: Celery) -> Iterator[ExpiryClock]:
    with expiry_clock_of(app) as clock:
        yield clock


def test_a_commit_and_a_rollback(app: Celery, clock: ExpiryClock) -> None:
    note = app.tasks["note"]
    with transaction.atomic():
        result = schedule_on_expiry(note.s(1), seconds=86400, on_commit=True)
        assert clock.pending() == []
    assert [timer.id for timer in clock.pending()] == [result.id]
    with transaction.atomic():
        schedule_on_expiry(note.s(2), seconds=60, on_commit=True)
        transaction.set_rollback(True)
    schedule_on_expiry(note.s(3), seconds=120, on_commit=True)
    clock.advance(days=1)
    assert ran == [(3, 120), (1, 86400)]


def test_the_seconds_count_from_the_call(app: Celery, clock: ExpiryClock) -> None:
    with transaction.atomic():
        schedule_on_expiry(app.tasks["note"].s(1), seconds=3600, on_commit=True)
    [timer] = clock.pending()
    assert timer.remaining == pytest.approx(3600, abs=5)


def test_without_a_clock_it_runs_at_commit(app: Celery) -> None:
    with transaction.atomic():
        schedule_on_expiry(app.tasks["note"].s(1), seconds=86400, on_commit=True)
        assert ran == []
    assert ran == [(1, 0)]

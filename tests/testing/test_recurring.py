"""Recurring timers by the clock of users' tests, in memory and in a real Redis."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from celery import Celery, chain
from celery.schedules import crontab, solar
from freezegun import freeze_time

from celery_redis_expiry import cancel, get_timer, reschedule, schedule_on_expiry
from celery_redis_expiry.store import store_of
from celery_redis_expiry.testing import ExpiryClock, FiredTimer, expiry_clock_of
from celery_redis_expiry.timer import Undecodable
from tests.integration.commands import told
from tests.servers.redis import RedisServer

MORNING = datetime(2030, 1, 1, 6, tzinfo=timezone.utc)


@pytest.fixture
def app() -> Celery:
    app = Celery("project", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(task_always_eager=True, expiry_countdown_threshold=60)

    @app.task(shared=False, name="note", bind=True)
    def note(task: Any, label: Any) -> tuple[Any, int | None]:
        return label, getattr(task.request, "expiry_missed", None)

    @app.task(shared=False, name="flaky", bind=True, max_retries=1)
    def flaky(task: Any, countdown: float) -> int:
        if not task.request.retries:
            raise task.retry(countdown=countdown)
        return int(task.request.retries)

    return app


@pytest.fixture
def clock(app: Celery) -> Iterator[ExpiryClock]:
    with time_machine.travel(MORNING, tick=False), expiry_clock_of(app) as clock:
        yield clock


def note(clock: ExpiryClock, label: Any = 1) -> Any:
    return clock.app.tasks["note"].s(label)


def minutes(fired: list[FiredTimer]) -> list[float]:
    """When what fired was due, since the morning."""
    return [(each.due - MORNING) / timedelta(minutes=1) for each in fired]


@pytest.fixture(params=["memory", "redis"])
def where(request: pytest.FixtureRequest, shared_redis: Callable[..., RedisServer]) -> str:
    return "memory://" if request.param == "memory" else shared_redis(use="plugin").url()


def test_each_occurrence_at_its_time(app: Celery, where: str) -> None:
    with expiry_clock_of(app, redis_url=where) as clock:
        began = clock.now()
        timer = schedule_on_expiry(note(clock, "ü"), every=timedelta(minutes=5), key="tick")
        schedule_on_expiry(note(clock, "between"), 720)
        fired = clock.advance(minutes=17)
        assert [each.args[0] for each in fired] == ["ü", "ü", "between", "ü"]
        assert [round((each.due - began) / timedelta(minutes=1)) for each in fired] == [5, 10, 12, 15]
        occurrences = [each for each in fired if each.name == "tick"]
        assert [(each.task, each.state, each.result) for each in occurrences] == [
            ("note", "SUCCESS", ("ü", 0))
        ] * 3
        assert len({each.id for each in occurrences} | {timer.id}) == 4
        [waits] = clock.pending()
        assert (waits.name, waits.timer.fired, waits.timer.skipped) == ("tick", 3, 0)
        assert waits.due == occurrences[-1].due + timedelta(minutes=5)
        assert cancel("tick", app=app)
        assert clock.advance(hours=1) == clock.pending() == []


def test_every_redis(app: Celery, redis_server: RedisServer) -> None:
    with expiry_clock_of(app, redis_url=redis_server.url()) as clock:
        schedule_on_expiry(note(clock), every=3600, key="hourly")
        assert [each.name for each in clock.advance(hours=3)] == ["hourly"] * 3


def test_a_crontab_by_the_time_zone_of_the_app(app: Celery) -> None:
    app.conf.timezone = "Europe/Berlin"
    with freeze_time("2030-01-01 06:00:00"), expiry_clock_of(app) as clock:
        schedule_on_expiry(note(clock), every=crontab(hour=8, minute=30), key="mornings")
        fired = clock.advance(days=3)
        assert [each.due.isoformat()[:16] for each in fired] == [f"2030-01-0{day}T07:30" for day in (1, 2, 3)]


def test_what_was_missed_is_one_occurrence(clock: ExpiryClock) -> None:
    schedule_on_expiry(note(clock), every=600, key="tick")
    # as a test does that moves its time by itself
    with time_machine.travel(MORNING + timedelta(minutes=35), tick=False):
        [fired] = clock.advance()
        assert (minutes([fired]), fired.result) == ([30], (1, 2))
        assert minutes(clock.advance(minutes=10)) == [40]


def test_moved_by_hand(clock: ExpiryClock) -> None:
    schedule_on_expiry(note(clock), every=600, key="tick")
    assert reschedule("tick", 60, app=clock.app)
    assert minutes(clock.advance(minutes=20)) == [1, 10, 20]


def test_none_fires_while_the_last_one_goes_on(clock: ExpiryClock) -> None:
    flaky = clock.app.tasks["flaky"].s(25 * 60)
    schedule_on_expiry(flaky, every=600, key="slow", overlap=timedelta(hours=2))
    fired = clock.advance(minutes=40)
    assert [(each.state, at) for each, at in zip(fired, minutes(fired), strict=True)] == [
        ("RETRY", 10), ("SUCCESS", 35), ("RETRY", 40)
    ]  # fmt: skip
    assert fired[0].id == fired[1].id
    timer = get_timer("slow", app=clock.app)
    assert timer is not None
    assert (timer.fired, timer.skipped) == (2, 2)


def test_nobody_waits_for_longer_than_the_bound(clock: ExpiryClock) -> None:
    flaky = clock.app.tasks["flaky"].s(3600)
    schedule_on_expiry(flaky, every=600, overlap=timedelta(minutes=15))
    assert minutes(clock.advance(minutes=40)) == [10, 30]


def test_a_retry_at_once_has_ended_when_it_has(clock: ExpiryClock) -> None:
    schedule_on_expiry(clock.app.tasks["flaky"].s(1), every=600, overlap=timedelta(hours=2))
    assert minutes(clock.advance(minutes=30)) == [10, 20, 30]


def test_each_test_awaits_its_own(app: Celery) -> None:
    """What is told of a task's end goes to the store of this test, not of the last."""
    for _ in range(2):
        with time_machine.travel(MORNING, tick=False), expiry_clock_of(app) as clock:
            schedule_on_expiry(note(clock), every=600, key="tick", overlap=timedelta(hours=2))
            assert minutes(clock.advance(minutes=30)) == [10, 20, 30]


def test_a_canvas(clock: ExpiryClock) -> None:
    steps = chain(note(clock), clock.app.tasks["note"].s(), app=clock.app)
    schedule_on_expiry(steps, every=600, key="chain", overlap=True)
    assert [(each.name, each.task) for each in clock.advance(minutes=20)] == [("chain", "celery.chain")] * 2


def test_a_broken_schedule(clock: ExpiryClock, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ephem")
    schedule_on_expiry(note(clock, "evening"), every=solar("sunset", 52.5, 13.4), key="evening", seconds=600)
    schedule_on_expiry(note(clock, "tick"), every=600, key="tick")
    monkeypatch.setitem(sys.modules, "ephem", None)
    monkeypatch.setattr("celery.schedules.ephem", None, raising=False)
    with pytest.raises(Undecodable, match="evening is a dead letter: its schedule"):
        clock.advance(minutes=10)
    [letter] = [each for shard in store_of(clock.app).shards for each in shard.dead_letters()]
    assert (letter.label, letter.origin) == ("evening", "expiry_clock")
    assert minutes(clock.advance(minutes=20)) == [20, 30]
    assert [each.name for each in clock.pending()] == ["tick"]


def test_beat_schedule(clock: ExpiryClock) -> None:
    def entry(label: str, schedule: float) -> dict[str, Any]:
        return {"a": {"task": "note", "args": (label,), "schedule": schedule}}

    def synced() -> list[str]:
        return [each["what"] for each in told(clock.app, "sync-beat", "--no-overlap")]

    # without celery.backend_cleanup
    clock.app.conf.result_expires = None
    clock.app.conf.beat_schedule = entry("old", 600)
    assert (synced(), synced()) == (["added"], ["unchanged"])
    assert minutes(clock.advance(minutes=15)) == [10]
    clock.app.conf.beat_schedule = entry("new", 600)
    assert synced() == ["changed"]
    fired = clock.advance(minutes=15)
    assert ([each.args for each in fired], minutes(fired)) == ([("new",)] * 2, [20, 30])
    clock.app.conf.beat_schedule = entry("new", 60)
    assert synced() == ["changed"]
    assert minutes(clock.advance(minutes=2)) == [31, 32]
    clock.app.conf.beat_schedule = {}
    assert synced() == ["removed"]
    assert clock.advance(hours=1) == []


def test_too_many_at_once(clock: ExpiryClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_redis_expiry.testing.clock.ROUNDS", 5)
    schedule_on_expiry(note(clock), every=60)
    with pytest.raises(RuntimeError, match=r"fired 5 times.*let less time pass in one advance"):
        clock.advance(days=1)

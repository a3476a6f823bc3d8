"""The clock of users' tests, with timers in memory and in a real Redis: the same in both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from celery import Celery, chain, chord, group
from freezegun import freeze_time

from celery_redis_expiry import (
    acancel,
    aget_timer,
    areschedule,
    aschedule_many_on_expiry,
    aschedule_on_expiry,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.conf import NAME_FIRST
from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.testing import ExpiryClock, FiredTimer, expiry_clock_of
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer

DAY = 86400


class Project:
    """An app as a project has it in its tests, and what ran: (task, argument, seconds since then)."""

    def __init__(self, **conf: Any) -> None:
        self.app = app = Celery("project", broker="redis://127.0.0.1:1/0", set_as_current=False)
        app.conf.update(task_always_eager=True, **conf)
        self.began = datetime.now(timezone.utc)
        self.ran: list[tuple[str, Any, float]] = []

        @app.task(shared=False, name="note")
        def note(label: Any, then: Any = None) -> Any:
            self.note("note", label)
            return label

        @app.task(shared=False, name="fail")
        def fail(label: Any) -> None:
            self.note("fail", label)
            raise ValueError(label)

        @app.task(shared=False, name="flaky", bind=True, max_retries=3)
        def flaky(task: Any, label: Any, countdown: float = 3600) -> Any:
            self.note("flaky", task.request.retries)
            if task.request.retries < 2:
                raise task.retry(countdown=countdown)
            return label

        self.note_task, self.fail, self.flaky = note, fail, flaky

    def note(self, task: str, label: Any) -> None:
        seconds = (datetime.now(timezone.utc) - self.began).total_seconds()
        self.ran.append((task, label, round(seconds)))

    def s(self, label: Any) -> Any:
        return self.note_task.s(label)


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture(params=["memory", "redis"])
def where(request: pytest.FixtureRequest, shared_redis: Callable[..., RedisServer]) -> str:
    return "memory://" if request.param == "memory" else shared_redis(use="plugin").url()


@pytest.fixture
def clock(project: Project, where: str) -> Iterator[ExpiryClock]:
    with expiry_clock_of(project.app, redis_url=where) as clock:
        # not before: a Redis that is started for the test takes a while
        project.began = datetime.now(timezone.utc)
        yield clock


def told(fired: list[FiredTimer]) -> list[Any]:
    return [each.args[0] for each in fired]


def test_what_is_due_fires_in_order_each_at_its_time(project: Project, clock: ExpiryClock) -> None:
    for label, seconds in (("c", 7200), ("a", 60), ("d", 2 * DAY), ("b", 3600)):
        schedule_on_expiry(project.s(label), seconds)
    assert project.ran == []
    fired = clock.advance(days=1)
    assert told(fired) == ["a", "b", "c"]
    assert [(each.task, each.state, each.result) for each in fired] == [
        ("note", "SUCCESS", label) for label in "abc"
    ]
    assert project.ran == [("note", "a", 60), ("note", "b", 3600), ("note", "c", 7200)]
    assert told(clock.pending()) == ["d"]
    assert told(clock.advance(timedelta(days=1))) == ["d"]
    assert clock.pending() == []


def test_nothing_fires_before_its_time(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.s(1), DAY)
    assert clock.advance(hours=23, minutes=59) == []
    assert clock.advance() == []
    assert told(clock.advance(minutes=1)) == [1]


def test_one_clock_for_all(project: Project, clock: ExpiryClock) -> None:
    result = schedule_on_expiry(project.s(1), DAY)
    due = get_timer(result).due
    clock.advance(hours=6)
    timer = get_timer(result)
    assert timer.due == due
    assert timer.remaining == pytest.approx(DAY * 3 / 4, abs=5)
    assert abs((clock.now() - datetime.now(timezone.utc)).total_seconds()) < 5
    assert abs((timer.due - datetime.now(timezone.utc)).total_seconds() - timer.remaining) < 5
    [listed] = iter_timers(app=project.app)
    assert (listed.due, round(listed.remaining / 60)) == (due, 18 * 60)
    schedule_on_expiry(project.s(2), at=datetime.now(timezone.utc) + timedelta(hours=1))
    assert told(clock.advance(hours=1)) == [2]
    assert told(clock.advance_to(due)) == [1]
    with pytest.raises(ValueError, match="time does not go back"):
        clock.advance_to(due - timedelta(hours=1))


def test_a_frozen_time_machine_is_driven_on(project: Project, clock: ExpiryClock) -> None:
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=timezone.utc), tick=False):
        result = schedule_on_expiry(project.s(1), DAY)
        assert get_timer(result).due == datetime(2030, 1, 2, tzinfo=timezone.utc)
        assert get_timer(result).remaining == DAY
        [fired] = clock.advance(days=1)
        assert fired.due == datetime.now(timezone.utc) == datetime(2030, 1, 2, tzinfo=timezone.utc)
        assert get_timer(result) is None


def test_a_time_frozen_in_the_past_is_driven_on(project: Project, clock: ExpiryClock) -> None:
    with freeze_time("2020-01-01 12:00:00"):
        result = schedule_on_expiry(project.s(1), at=datetime(2020, 1, 3))
        assert get_timer(result).remaining == 1.5 * DAY
        assert clock.advance_to(datetime(2020, 1, 2, 23)) == []
        assert get_timer(result).remaining == 3600
        assert told(clock.advance(hours=2)) == [1]
        assert datetime.now() == datetime(2020, 1, 3, 1)


def test_cancel_and_reschedule(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.s(1), DAY, key="one", app=project.app)
    schedule_on_expiry(project.s(2), DAY, key="two", app=project.app)
    clock.advance(hours=1)
    assert cancel("one", app=project.app)
    assert reschedule("two", 3 * DAY, app=project.app)
    assert clock.advance(days=2, hours=23) == []
    assert told(clock.advance(hours=1)) == [2]
    assert project.ran == [("note", 2, 3 * DAY + 3600)]


def test_a_debounce_is_put_off_no_longer_than_it_may(project: Project, clock: ExpiryClock) -> None:
    fired = []
    for call in range(5):
        schedule_on_expiry(project.s(call), 60, key="save", max_wait=150)
        fired += clock.advance(seconds=50)
    assert project.ran == [("note", 2, 150)] == [(each.task, each.args[0], 150) for each in fired]
    assert told(clock.advance(seconds=10)) == [4]


def test_guards_are_asked_when_it_is_due(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.s("signed up"), 60, unless_exists="test:signed-up")
    schedule_on_expiry(project.s("not paid"), 120, only_if_exists=["test:paid"])
    schedule_on_expiry(project.s("fine"), 180, unless_exists="test:left")
    clock.redis.set("test:signed-up", 1, ex=600)
    try:
        assert told(clock.advance(minutes=5)) == ["fine"]
    finally:
        clock.redis.delete("test:signed-up")
    assert clock.pending() == []


def test_many_at_once(project: Project, clock: ExpiryClock) -> None:
    summary = schedule_many_on_expiry(
        [(project.s(i), 3600 + i % 3) for i in range(600)]
        + [{"signature": project.s("n"), "seconds": 5, "key": "n"}]
    )
    assert summary.scheduled == 601
    assert clock.advance(seconds=10)[0].name == "n"
    assert sorted(told(clock.advance(hours=2))) == list(range(600))


def test_the_same_from_an_event_loop(project: Project, clock: ExpiryClock) -> None:
    async def story() -> list[FiredTimer]:
        result = await aschedule_on_expiry(project.s(1), DAY)
        assert (await aget_timer(result)).remaining == pytest.approx(DAY, abs=5)
        await aschedule_many_on_expiry([(project.s(2), 60), (project.s(3), 120)])
        await aschedule_on_expiry(project.s(4), 60, key="four")
        assert await acancel("four", app=project.app)
        fired = clock.advance(seconds=90)
        assert (await aget_timer(result)).remaining == pytest.approx(DAY - 90, abs=5)
        assert await areschedule(result, 10)
        return [*fired, *clock.advance(seconds=10)]

    assert told(asyncio.run(story())) == [2, 1]
    assert told(clock.pending()) == [3]


def test_a_test_may_expire_trigger_keys_itself(project: Project, where: str) -> None:
    with expiry_clock_of(project.app, redis_url=where) as clock:
        earlier, later, parked = [schedule_on_expiry(project.s(i), 3600) for i in range(3)]
        clock.redis.expire(get_timer(earlier).trigger_key, 60)
        clock.redis.expire(get_timer(later).trigger_key, 7200)
        clock.redis.persist(get_timer(parked).trigger_key)
        assert told(clock.advance(seconds=61)) == [0]
        assert told(clock.advance(seconds=5400)) == []
        assert told(clock.advance(seconds=5400)) == [1]
        [left] = clock.pending()
        assert (left.due, left.timer.state, left.args) == (None, "parked", (2,))


def test_what_a_task_schedules_fires_within_the_same_time(project: Project, clock: ExpiryClock) -> None:
    @project.app.task(shared=False, name="again")
    def again(count: int) -> None:
        project.note("again", count)
        if count < 3:
            schedule_on_expiry(again.s(count + 1), 3600)

    schedule_on_expiry(again.s(1), 3600)
    schedule_on_expiry(project.s("between"), 5400)
    clock.advance(hours=3)
    assert project.ran == [
        ("again", 1, 3600), ("note", "between", 5400), ("again", 2, 7200), ("again", 3, 10800)
    ]  # fmt: skip


def test_an_error_of_a_task(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.fail.s("x"), 60)
    schedule_on_expiry(project.s("y"), 60)
    failed = next(each for each in clock.advance(minutes=1) if each.task == "fail")
    assert failed.state == "FAILURE"
    assert isinstance(failed.result, ValueError)

    project.app.conf.task_eager_propagates = True
    schedule_on_expiry(project.fail.s("x"), 60)
    schedule_on_expiry(project.s("y"), 60)
    with pytest.raises(ValueError, match="x"):
        clock.advance(minutes=1)
    clock.advance(seconds=1)
    assert [(task, label) for task, label, _ in project.ran].count(("note", "y")) == 2


def test_retries_become_timers_again(project: Project, clock: ExpiryClock) -> None:
    project.app.conf.expiry_countdown_threshold = 60
    schedule_on_expiry(project.flaky.s("done"), 60)
    fired = clock.advance(hours=3)
    assert [each.state for each in fired] == ["RETRY", "RETRY", "SUCCESS"]
    assert project.ran == [("flaky", 0, 60), ("flaky", 1, 3660), ("flaky", 2, 7260)]
    assert len({each.id for each in fired}) == 1


def test_countdowns_of_what_runs_at_once_become_timers(project: Project, clock: ExpiryClock) -> None:
    project.app.conf.expiry_countdown_threshold = 60
    assert project.note_task.apply_async((1,), countdown=30).get() == 1
    later = project.note_task.apply_async((2,), countdown=3600)
    project.flaky.delay("x")
    assert [each.task for each in clock.pending()] == ["note", "flaky"]
    assert project.ran == [("note", 1, 0), ("flaky", 0, 0)]
    assert next(each.id for each in clock.advance(hours=1)) == later.id
    assert told(clock.advance(hours=1)) == ["x"]
    assert project.ran[2:] == [("note", 2, 3600), ("flaky", 1, 3600), ("flaky", 2, 7200)]


def test_without_a_threshold_a_retry_is_immediate(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.flaky.s("done"), 60)
    [fired] = clock.advance(minutes=1)
    assert (fired.state, fired.result) == ("SUCCESS", "done")
    assert [label for _, label, _ in project.ran] == [0, 1, 2]


def test_a_chain_waits_between_its_steps(project: Project, clock: ExpiryClock) -> None:
    project.app.conf.expiry_countdown_threshold = 60

    @project.app.task(shared=False, name="plus")
    def plus(x: int, y: int) -> int:
        project.note("plus", x + y)
        return x + y

    steps = chain(plus.s(1, 1), plus.s(10).set(countdown=3600), plus.s(100), plus.s(1000).set(countdown=7200))
    schedule_on_expiry(steps, 60)
    [first, *_] = clock.advance(seconds=60)
    assert (first.task, first.args, len(first.canvas.tasks)) == ("celery.chain", (), 4)
    [waits] = clock.pending()
    assert (waits.task, waits.args) == ("plus", (2, 10))
    clock.advance(days=1)
    assert project.ran == [("plus", 2, 60), ("plus", 12, 3660), ("plus", 112, 3660), ("plus", 1112, 10860)]
    steps.delay()
    clock.advance(days=1)
    assert [total for _, total, _ in project.ran[4:]] == [2, 12, 112, 1112]


def test_groups_and_chords(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(group(project.s(1), project.s(2), app=project.app), 60)
    schedule_on_expiry(chord([project.s(3), project.s(4)], project.note_task.s(), app=project.app), 120)
    both = clock.advance(minutes=2)
    assert [(each.state, each.result) for each in both] == [("SUCCESS", [1, 2]), ("SUCCESS", [3, 4])]


def test_every_redis(project: Project, redis_server: RedisServer) -> None:
    """A script that asks for the time, and for TTLs, is told those of the test's process."""
    with expiry_clock_of(project.app, redis_url=redis_server.url()) as clock:
        first, later = [schedule_on_expiry(project.s(i), 3600 * (i + 1)) for i in range(2)]
        clock.redis.expire(get_timer(later).trigger_key, 7260)
        assert told(clock.advance(hours=1)) == [0]
        assert get_timer(first) is None
        assert get_timer(later).remaining == pytest.approx(3660, abs=5)
        assert [round(each.remaining / 10) for each in iter_timers(app=project.app)] == [366]
        assert later.reschedule(60)
        assert told(clock.advance(seconds=59)) == []
        assert told(clock.advance(seconds=1)) == [1]


def test_what_cannot_be(project: Project, clock: ExpiryClock) -> None:
    @project.app.task(shared=False, name="meddle")
    def meddle() -> None:
        clock.advance(days=1)

    schedule_on_expiry(meddle.s(), 60)
    [fired] = clock.advance(minutes=1)
    assert isinstance(fired.result, RuntimeError)
    assert "must not advance the clock" in str(fired.result)
    for wrong in ({"by": 5}, {"weaks": 1}):
        with pytest.raises(TypeError):
            clock.advance(**wrong)
    with pytest.raises(TypeError, match="and not both"):
        clock.advance(timedelta(1), days=1)
    with pytest.raises(TypeError, match="takes a datetime, not float"):
        clock.advance_to(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a timedelta, or its units, such as days=1, not int"):
        clock.advance(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time does not go back"):
        clock.advance(seconds=-1)


def test_a_cluster(project: Project, redis_cluster: RedisCluster) -> None:
    with expiry_clock_of(project.app, redis_url=redis_cluster.url()) as clock:
        for i in range(20):
            schedule_on_expiry(project.s(i), 60 * (i + 1), key=f"number {i}")
        clock.redis.expire(get_timer("number 15", app=project.app).trigger_key, 30)
        assert told(clock.advance(minutes=10)) == [15, *range(10)]
        assert told(clock.advance(minutes=1)) == [10]
        assert len(clock.pending()) == 8
        namespace = clock.app.conf.expiry_namespace
    with redis_cluster.client() as client:
        assert [key for key in client.scan_iter() if namespace in str(key)] == []


def test_nothing_is_left(project: Project, where: str, shared_redis: Callable[..., RedisServer]) -> None:
    with expiry_clock_of(project.app, redis_url=where) as clock:
        schedule_on_expiry(project.s(1), DAY)
        clock.redis.set("theirs", "stays", ex=60)
        namespace = clock.app.conf.expiry_namespace
    assert project.app.conf.expiry_namespace is None
    assert project.app.conf.expiry_redis_url is None
    with expiry_clock_of(project.app, redis_url=where) as clock:
        assert clock.pending() == []
        assert [key for key in clock.redis.scan_iter() if namespace.encode() in key] == []
        assert clock.redis.delete("theirs") == (0 if where == "memory://" else 1)
    # the calls are as they were: what is scheduled runs at once
    assert schedule_on_expiry(project.s(2), DAY).get() == 2
    assert abs(datetime.now(timezone.utc) - project.began) < timedelta(minutes=5)


def test_an_app_whose_settings_have_a_prefix() -> None:
    """As Django's: its Redis is not come near to, and it is configured as before afterwards."""
    app = Celery("prefixed", set_as_current=False)
    nowhere, broker = "redis://127.0.0.1:1/0", "memory://"
    settings: Any = SimpleNamespace(CELERY_EXPIRY_REDIS_URL=nowhere, CELERY_BROKER_URL=broker)
    app.config_from_object(settings, namespace="CELERY")
    told = pytest.raises(NotConfigured, match="expiry_redis_url") if NAME_FIRST else nullcontext()
    with told, expiry_clock_of(app) as clock:
        schedule_on_expiry(app.signature("one"), 60, app=app)
        assert len(clock.pending()) == 1
    assert app.conf.expiry_redis_url == nowhere

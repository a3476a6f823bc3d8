"""Keys of the user's own in memory: what waits for them, and who is told of their expiry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celery_redis_expiry import on_key_expired, schedule_on_expiry
from celery_redis_expiry.testing import ExpiryClock, expiry_clock_of
from tests.testing.test_clock import Project


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture
def clock(project: Project) -> Iterator[ExpiryClock]:
    with expiry_clock_of(project.app) as clock:
        yield clock


def test_keys_expire_as_time_passes(clock: ExpiryClock) -> None:
    clock.redis.set("session:1", "x", ex=3600)
    clock.advance(minutes=59)
    assert clock.redis.get("session:1") == b"x"
    clock.advance(minutes=2)
    assert clock.redis.get("session:1") is None


def test_a_timer_that_waits_for_a_key(project: Project, clock: ExpiryClock) -> None:
    clock.redis.set("session:1", "x", ex=3600)
    schedule_on_expiry(project.s("gone"), watch="session:1")
    schedule_on_expiry(project.s("before"), 3500)
    [_, waits] = clock.pending()
    assert (waits.args, waits.due, waits.timer.watch) == (("gone",), None, "session:1")
    clock.advance(minutes=30)
    clock.redis.expire("session:1", 3600)
    assert [each.args for each in clock.advance(minutes=59)] == [("before",)]
    [fired] = clock.advance(minutes=1)
    assert fired.args == ("gone",)
    assert project.ran == [("note", "before", 3500), ("note", "gone", 5400)]


def test_a_key_that_is_not_there_is_waited_for(project: Project, clock: ExpiryClock) -> None:
    schedule_on_expiry(project.s("gone"), watch="session:1")
    assert clock.advance(days=1) == []
    clock.redis.set("session:1", "x", ex=60)
    clock.redis.delete("session:1")
    assert clock.advance(days=1) == []
    clock.redis.set("session:1", "x", ex=60)
    assert [each.args for each in clock.advance(days=1)] == [("gone",)]


def test_handlers_of_keys(project: Project, clock: ExpiryClock) -> None:
    @on_key_expired("cart:*", app=project.app, with_value=True)
    @project.app.task(shared=False, name="abandoned")
    def abandoned(event: dict[str, object]) -> None:
        project.note(str(event["key"]), event["value"])

    clock.redis.set("cart:2", "two", ex=7200)
    clock.redis.hset("cart:1", "sku", "7")
    clock.redis.expire("cart:1", 3600)
    clock.redis.set("other:1", "x", ex=60)
    fired = clock.advance(hours=3)
    assert [each.task for each in fired] == ["abandoned", "abandoned"]
    assert project.ran == [("cart:1", {"sku": "7"}, 3600), ("cart:2", "two", 7200)]
    assert clock.redis.exists("cart:1", "cart:2", "other:1") == 0

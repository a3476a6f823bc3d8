"""The trigger key in the hands of a redis-cli user, with ten thousand other timers waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_redis_expiry import get_timer, schedule_many_on_expiry, schedule_on_expiry
from tests.site import Site, once_each
from tests.waiting import eventually

WAITING = 10_000


def forget_waiting(site: Site) -> None:
    """Take the far timers away, so that the rest can be drained."""
    keys = list(site.redis.scan_iter(site.key("*").replace("{", "?"), count=5000))
    site.redis.delete(*(key for key in keys if not key.endswith(":namespace")))


def trigger_key(site: Site, target: Any) -> str:
    timer = get_timer(target, app=site.app)
    assert timer is not None
    return str(timer.trigger_key)


def test_the_key_is_readable(site: Site) -> None:
    result = schedule_on_expiry(site.record("x"), seconds=600)
    schedule_on_expiry(site.record("y"), seconds=600, key="referral:42")
    assert result.id in trigger_key(site, result)
    assert "referral:42" in trigger_key(site, "referral:42")
    assert 598 <= site.redis.ttl(trigger_key(site, "referral:42")) <= 600


def test_moved_by_hand_among_ten_thousand(site: Site) -> None:
    summary = schedule_many_on_expiry((site.record("waiting"), 86400) for _ in range(WAITING))
    assert summary.scheduled == WAITING
    worker = site.expiry("plain")
    moved_later(site)
    assert worker.stop() == 0
    worker = site.expiry("follower", expiry_follow_foreign_ttl=True)
    moved_earlier(site)
    assert site.waiting() == WAITING
    forget_waiting(site)
    once_each(site.drain(22), ["later", "other", *range(20)])


def moved_later(site: Site) -> None:
    """Exactly to the new time, and no run at the old one."""
    result = schedule_on_expiry(site.record("later"), seconds=1)
    other = schedule_on_expiry(site.record("other"), seconds=1)
    moved_to = int((site.now() + 3) * 1000)
    assert site.redis.pexpireat(trigger_key(site, result), moved_to)
    assert other.get(timeout=20) == "other"  # the old due time is over …
    assert not site.runs("later")  # … and did not fire it
    assert result.due is not None
    assert abs(result.due.timestamp() * 1000 - moved_to) <= 1
    assert site.wait_run("later")["at"] * 1000 >= moved_to


def moved_earlier(site: Site) -> None:
    """On time, not when Redis happens to come along: it needs half a minute among so many keys with a TTL."""
    results = [schedule_on_expiry(site.record(number), seconds=3600) for number in range(20)]
    moved_to = site.now() + 1
    for result in results:
        assert site.redis.pexpireat(trigger_key(site, result), int(moved_to * 1000))
    for result in results:
        result.get(timeout=20)
    moments = [run["at"] for number in range(20) for run in site.runs(number)]
    assert moved_to - 0.001 <= min(moments)
    assert max(moments) <= moved_to + 10


def test_earlier_fires_when_redis_expires_it(site: Site) -> None:
    site.expiry()
    result = schedule_on_expiry(site.record("earlier"), seconds=3600)
    key = trigger_key(site, result)
    site.redis.pexpire(key, 200)
    eventually(lambda: not site.redis.exists(key), what="Redis sees its expiry")  # EXISTS makes it look
    assert result.get(timeout=20) == "earlier"
    once_each(site.drain(1), ["earlier"])


def test_persist_parks_it(site: Site) -> None:
    site.expiry()
    result = schedule_on_expiry(site.record("parked"), seconds=1)
    key = trigger_key(site, result)
    assert site.redis.persist(key)
    assert schedule_on_expiry(site.record("after"), seconds=1.2).get(timeout=20) == "after"

    def is_parked() -> bool:
        timer = get_timer(result)
        return timer is not None and timer.state == "parked"

    eventually(is_parked, what=lambda: f"parked: {get_timer(result)}")
    assert not site.runs("parked")
    assert result.reschedule(seconds=0.3) is True
    assert result.get(timeout=20) == "parked"
    once_each(site.drain(2), ["parked", "after"])


def test_a_thousand_parked_hold_nobody_up(site: Site) -> None:
    site.expiry()
    results: list[Any] = []
    parked = 1000
    schedule_many_on_expiry(
        ((site.record(n), 4) for n in range(parked)), on_result=lambda _, result: results.append(result)
    )
    with site.redis.pipeline(transaction=False) as pipe:
        for key in list(site.redis.scan_iter(site.key("trigger:*").replace("{", "?"), count=5000)):
            pipe.persist(key)
        assert sum(pipe.execute()) == parked
    punctual = [schedule_on_expiry(site.record(f"punctual {n}"), seconds=4.5 + n / 10) for n in range(10)]
    dues = [result.due for result in punctual]
    for result, due in zip(punctual, dues, strict=True):
        assert result.get(timeout=20)
        assert due is not None
        assert site.wait_run(f"punctual {punctual.index(result)}")["at"] <= due.timestamp() + 5
    assert len(site.runs()) == len(punctual)
    fired = 100
    for result in results[:fired]:
        assert result.reschedule(seconds=0) is True
    for result in results[fired:]:
        assert result.cancel() is True
    once_each(site.drain(fired + 10), [*range(fired), *(f"punctual {n}" for n in range(10))])


@pytest.mark.parametrize("how", ["delete", "expire"])
def test_what_no_event_can_tell_does_not_cancel(site: Site, how: str) -> None:
    """DEL and EXPIRE 0 look like a loss: the timer fires at the time the index has for it."""
    site.expiry()
    result = schedule_on_expiry(site.record(how), seconds=1.5)
    due = result.due
    lose: dict[str, Callable[[str], Any]] = {
        "delete": site.redis.delete,
        "expire": lambda key: site.redis.expire(key, 0),
    }
    assert lose[how](trigger_key(site, result))
    assert due is not None
    assert site.wait_run(how)["at"] >= due.timestamp() - 0.001
    once_each(site.drain(1), [how])

"""Timers and dead letters listed: in order, page by page, filtered, while others change them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock, patch

import pytest
from celery import chain

from celery_redis_expiry import (
    InvalidTimer,
    Timer,
    cancel,
    get_timer,
    iter_dead_letters,
    iter_timers,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import store_of
from celery_redis_expiry.store.dead_letters import DeadLetters
from tests.servers.cluster import RedisCluster
from tests.site import Site

#: Fewer than there are timers, so that every listing takes several round trips.
PAGE = 7


def listed(site: Site, **how: Any) -> list[Timer]:
    return list(iter_timers(app=site.app, page=PAGE, **how))


def names(timers: list[Timer]) -> list[str | None]:
    return [timer.name for timer in timers]


def test_soonest_first_and_none_twice(site: Site) -> None:
    delays = [600 + (number * 37) % 50 for number in range(60)]
    schedule_many_on_expiry(
        {"signature": site.record(n), "seconds": delay, "key": f"t{n}"} for n, delay in enumerate(delays)
    )
    timers = listed(site)
    assert sorted(names(timers)) == sorted(f"t{n}" for n in range(60))
    assert [timer.due for timer in timers] == sorted(timer.due for timer in timers if timer.due)
    assert timers[0] == get_timer(timers[0].name, app=site.app) or timers[0].remaining is not None


def test_more_of_one_due_time_than_a_page_holds(site: Site) -> None:
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    schedule_many_on_expiry(
        {"signature": site.record(n), "at": at, "key": f"t{n:02}"} for n in range(3 * PAGE)
    )
    schedule_on_expiry(site.record(0), at=at + timedelta(seconds=1), key="last")
    assert sorted(names(listed(site))) == [*["last"], *(f"t{n:02}" for n in range(3 * PAGE))]
    assert names(listed(site))[-1] == "last"


def test_what_goes_meanwhile_shifts_nobody(site: Site) -> None:
    for number in range(4 * PAGE):
        schedule_on_expiry(site.record(number), 600 + number, key=f"t{number}")
    timers = iter_timers(app=site.app, page=PAGE)
    first = [next(timers) for _ in range(PAGE)]
    for timer in first:
        assert cancel(timer.name, app=site.app)
    assert names(list(timers)) == [f"t{number}" for number in range(PAGE, 4 * PAGE)]


def test_what_is_told_of_one(site: Site) -> None:
    signature = site.record("x", note="y").set(queue="other", priority=3)
    schedule_on_expiry(signature, 600, key="told")
    [timer] = listed(site)
    assert (timer.task, timer.queue, timer.priority, timer.state) == ("ledger.record", "other", 3, "waiting")
    assert timer.args == "('x',)"
    assert "'note': 'y'" in timer.kwargs
    assert timer.due == get_timer("told", app=site.app).due  # type: ignore[union-attr]


def test_a_canvas_tells_its_signature(site: Site) -> None:
    schedule_on_expiry(chain(site.record(1), site.record(2)), 600)
    [timer] = listed(site)
    assert timer.task == "celery.chain"
    assert "record(1)" in timer.args
    assert timer.queue is None


def test_filters(site: Site) -> None:
    schedule_on_expiry(site.record(1), 100, key="referral:1")
    schedule_on_expiry(site.record(2), 200, key="referral:2")
    schedule_on_expiry(site.record(3).set(queue="other"), 300, key="cart:3")
    assert names(listed(site, name="referral:*")) == ["referral:1", "referral:2"]
    assert names(listed(site, queue="other")) == ["cart:3"]
    assert names(listed(site, task="ledger.*")) == ["referral:1", "referral:2", "cart:3"]
    assert listed(site, task="shop.*") == []
    middle = get_timer("referral:2", app=site.app)
    assert middle is not None
    assert names(listed(site, due_from=middle.due)) == ["referral:2", "cart:3"]
    assert names(listed(site, due_until=middle.due)) == ["referral:1", "referral:2"]


def test_the_ttl_rules_over_the_index(site: Site) -> None:
    schedule_on_expiry(site.record(1), 100, key="moved")
    schedule_on_expiry(site.record(2), 200, key="parked")
    timers = {timer.name: timer for timer in listed(site)}
    site.redis.expire(timers["moved"].trigger_key, 5000)
    site.redis.persist(timers["parked"].trigger_key)
    timers = {timer.name: timer for timer in listed(site)}
    assert timers["moved"].remaining == pytest.approx(5000, abs=60)
    assert (timers["parked"].state, timers["parked"].due) == ("parked", None)
    assert names(listed(site, states=["waiting"])) == ["moved"]
    assert names(listed(site, due_until=datetime.now(timezone.utc) + timedelta(hours=2))) == ["moved"]


def test_what_is_being_published(site: Site) -> None:
    schedule_on_expiry(site.record(1), 0, key="claimed")
    schedule_on_expiry(site.record(2), 600, key="waiting")
    shard = store_of(site.app).shards[0]
    [timer, _] = listed(site)
    member = timer.trigger_key.partition("trigger:")[2]
    while not shard.claim([(member, True)], token=new_token(), lease=60):
        pass  # due in this very millisecond
    assert names(listed(site)) == ["waiting"]
    [claimed, _] = listed(site, states=["claimed", "waiting"])
    assert (claimed.name, claimed.state) == ("claimed", "claimed")
    assert claimed.due == timer.due


@pytest.mark.parametrize("shards", [1, 3])
def test_dead_letters(make_site: Callable[..., Site], shards: int) -> None:
    site = make_site(expiry_shards=shards)
    store = store_of(site.app)
    for number in range(4 * PAGE):
        schedule_on_expiry(site.record(number), 0, key=f"bad{number}")
        shard = store.home(f"bad{number}")
        member = listed(site)[0].trigger_key.partition("trigger:")[2]
        while not (claims := shard.claim([(member, True)], token=new_token(), lease=60)):
            pass
        claims[0].id = "unknown"
        shard.bury(claims[0], f"reason {number}", "test")
    read = Mock(wraps=DeadLetters._letter)
    with patch.object(DeadLetters, "_letter", lambda self, *row: read(self, *row)):
        letters = list(iter_dead_letters(app=site.app, page=PAGE))
    assert {letter.reason for letter in letters} == {f"reason {number}" for number in range(4 * PAGE)}
    assert [letter.buried for letter in letters] == sorted((each.buried for each in letters), reverse=True)
    assert read.call_count == 4 * PAGE, "each is read once, however many pages there are"
    newest = [letter.member for letter in store.dead_letters(PAGE)]
    assert newest == [letter.member for letter in letters[:PAGE]]


@pytest.mark.parametrize("wrong", [{"states": ["due"]}, {"states": "waiting"}, {"due_from": "tomorrow"}])
def test_unusable(site: Site, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTimer):
        iter_timers(app=site.app, **wrong)


def test_eager_apps_have_none(site: Site) -> None:
    site.app.conf.task_always_eager = True
    assert (list(iter_timers(app=site.app)), list(iter_dead_letters(app=site.app))) == ([], [])


def test_all_shards_of_a_cluster_in_one_order(redis_cluster: RedisCluster, tmp_path: Any) -> None:
    from celery import Celery

    app = Celery("listed", broker="memory://", set_as_current=False)
    app.conf.update(expiry_redis_url=redis_cluster.url(), expiry_shards=16)

    @app.task(shared=False, name="listed.task")
    def task(number: int) -> None: ...

    for number in range(40):
        schedule_on_expiry(task.s(number), 600 + (number * 7) % 40, key=f"t{number}", app=app)
    dues = [timer.due for timer in iter_timers(app=app, page=2)]
    assert len(dues) == 40
    assert dues == sorted(due for due in dues if due)

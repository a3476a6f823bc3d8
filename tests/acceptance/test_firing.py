"""From schedule_on_expiry to a task that an ordinary worker has run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_redis_expiry import (
    TimerExists,
    cancel,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from tests.servers.redis import RedisServer
from tests.servers.sentinel import Sentinel
from tests.site import Site, once_each
from tests.waiting import eventually

GENEROUS = 10.0  # seconds after its due time by which a task has run on a busy machine


def test_a_timer_becomes_a_result(site: Site) -> None:
    site.expiry()
    result = schedule_on_expiry(site.record("hello"), seconds=1)
    due, remaining = result.due, result.remaining
    assert due is not None
    assert due.tzinfo is not None
    assert remaining is not None
    assert 0 < remaining <= 1
    assert result.get(timeout=20) == "hello"
    run = site.wait_run("hello")
    assert run["request"]["id"] == result.id
    assert due.timestamp() <= run["at"] <= due.timestamp() + GENEROUS
    eventually(lambda: result.due is None and result.remaining is None, what="a fired timer has no due time")
    assert get_timer(result) is None
    assert cancel(result) is False
    once_each(site.drain(1), ["hello"])


@pytest.mark.parametrize("events", [True, False], ids=["events", "no-events"])
def test_every_redis_version_fires(redis_server: RedisServer, make_site: Any, events: bool) -> None:
    """Not early on Redis's own clock, each once, with notifications and without."""
    site = make_site(redis_server)
    site.expiry(expiry_configure_notifications=events)
    results = {number: schedule_on_expiry(site.record(number), seconds=0.2 * number) for number in range(10)}
    results[10] = schedule_on_expiry(site.record(10), at=datetime.now(timezone.utc) + timedelta(seconds=1))
    dues = {number: result.due for number, result in results.items()}
    site.ordinary()
    runs = site.drain(len(results))
    once_each(runs, results)
    for run in runs:
        due = dues[run["label"]]
        assert due is None or run["at"] >= due.timestamp()


def test_all_ways_to_say_when(site: Site) -> None:
    site.expiry()
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    schedule_on_expiry(site.record("now"), seconds=0)
    schedule_on_expiry(site.record("float"), seconds=0.3)
    schedule_on_expiry(site.record("timedelta"), seconds=timedelta(milliseconds=300))
    schedule_on_expiry(site.record("at"), at=soon)
    schedule_on_expiry(site.record("naive"), at=soon.replace(tzinfo=None))  # app.timezone is UTC
    schedule_on_expiry(site.record("past"), at=soon - timedelta(days=1))
    once_each(site.drain(6), ["now", "float", "timedelta", "at", "naive", "past"])


def test_an_earlier_timer_wakes_the_sleeper(site: Site) -> None:
    """The worker sleeps until the head of the index; what gets ahead of that must not wait for it.

    Without events, so that nothing but the wake-up can tell it: Redis would expire a key soon by itself here.
    """
    site.expiry(expiry_configure_notifications=False)
    far = schedule_on_expiry(site.record("far"), seconds=600)
    near = schedule_on_expiry(site.record("near"), seconds=0.5)
    assert near.get(timeout=20) == "near"
    assert far.remaining is not None
    assert far.remaining > 500
    assert far.cancel() is True


def test_cancelled_and_moved(site: Site) -> None:
    site.expiry()
    cancelled = schedule_on_expiry(site.record("cancelled"), seconds=1)
    moved = schedule_on_expiry(site.record("moved"), seconds=600, key="moved")
    later = schedule_on_expiry(site.record("later"), seconds=0.6)
    assert cancelled.cancel() is True
    assert cancelled.cancel() is False
    assert reschedule("moved", seconds=0.5, app=site.app) is True
    assert later.reschedule(seconds=1.5) is True
    once_each(site.drain(2), ["moved", "later"])
    assert reschedule(moved, seconds=5) is False
    assert cancel("moved", app=site.app) is False
    assert cancel("never there", app=site.app) is False
    assert get_timer("never there", app=site.app) is None


def test_what_a_second_call_with_the_name_does(site: Site) -> None:
    site.expiry()
    for name in ("replace", "keep", "extend", "raise"):
        schedule_on_expiry(site.record(f"{name}-1"), seconds=1.0, key=name)
    schedule_on_expiry(site.record("replace-2"), seconds=1.2, key="replace")
    kept = schedule_on_expiry(site.record("keep-2"), seconds=600, key="keep", if_exists="keep")
    assert kept.remaining is not None
    assert kept.remaining <= 1
    extended = schedule_on_expiry(site.record("extend-2"), seconds=1.5, key="extend", if_exists="extend")
    assert extended.remaining is not None
    assert extended.remaining > 1
    with pytest.raises(TimerExists):
        schedule_on_expiry(site.record("raise-2"), seconds=600, key="raise", if_exists="raise")
    assert extended.get(timeout=20) == "extend-1"
    assert kept.get(timeout=20) == "keep-1"
    once_each(site.drain(4), ["replace-2", "keep-1", "extend-1", "raise-1"])


def test_many_at_once(site: Site) -> None:
    site.expiry()
    results: list[Any] = []
    items: list[Any] = [(site.record(number), number / 200) for number in range(200)]
    items.insert(50, (site.record("bad"), -1))
    items.append({"signature": site.record("named"), "seconds": 0.5, "key": "named"})
    summary = schedule_many_on_expiry(iter(items), on_result=lambda _, result: results.append(result))
    assert summary.scheduled == 201
    assert [bad.position for bad in summary.errors] == [50]
    assert [result.id for result in results] == list(dict.fromkeys(result.id for result in results))
    runs = site.drain(201)
    once_each(runs, [*range(200), "named"])
    ran = {run["label"]: run["request"]["id"] for run in runs}
    assert [result.id for result in results] == [ran[label] for label in [*range(200), "named"]]


def test_debounce_in_a_hurry(site: Site) -> None:
    """An abandoned cart: each click puts the reminder off, and in the end there is one."""
    site.expiry()
    for click in range(50):
        schedule_on_expiry(site.record(f"click {click}"), seconds=0.5, key="cart")
    once_each(site.drain(1), ["click 49"])


def test_any_name_will_do(site: Site) -> None:
    """Names are the users': nothing in them is read as a pattern, a separator or one of our own words."""
    names = ["a:b", "{x}", "*", "[ab]", "a b", "ü", "\\", "notification-probe", "due", "trigger:", "x" * 256]
    site.expiry()
    for name in names:
        schedule_on_expiry(site.record(name), seconds=0.3, key=name)
    schedule_on_expiry(site.record("own id").set(task_id="own:id *"), seconds=0.3)
    runs = site.drain(len(names) + 1)
    once_each(runs, [*names, "own id"])
    assert "own:id *" in {run["request"]["id"] for run in runs}


def test_behind_a_prefix(idle_site: Site, make_site: Any) -> None:
    """The broker's global_keyprefix stands before our keys as well, and their events are known by it."""
    prefixed = make_site(idle_site.server, broker_transport_options={"global_keyprefix": "[shop]*:"})
    prefixed.expiry()
    result = schedule_on_expiry(prefixed.record("x"), seconds=3600)
    timer = get_timer(result, app=prefixed.app)
    assert timer is not None
    assert timer.trigger_key.startswith("[shop]*:{expiry.ledger.0}:")
    prefixed.redis.pexpire(timer.trigger_key, 100)  # by event only: the index still says an hour
    eventually(lambda: not prefixed.redis.exists(timer.trigger_key), what="Redis sees its expiry")
    eventually(lambda: prefixed.redis.llen("[shop]*:celery") == 1, what="fired")


def test_where_sentinels_tell(idle_site: Site, make_site: Any) -> None:
    """Broker and store are what a sentinel says; the options of the one serve the other."""
    sentinel = Sentinel(idle_site.server)
    try:
        options = {"master_name": "main"}
        site = make_site(
            idle_site.server,
            broker=f"sentinel://127.0.0.1:{sentinel.port}/0",
            broker_transport_options=options,
            expiry_redis_url=None,
        )
        schedule_on_expiry(site.record("by broker"), seconds=0.3)
        site.expiry().wait_for(r"expiry: watching sentinel://")
        eventually(lambda: site.redis.llen("celery") == 1, what="fired")
        own = make_site(
            idle_site.server,
            main="own",
            expiry_redis_url=f"sentinel://127.0.0.1:{sentinel.port}/0",
            expiry_redis_options=options,
        )
        result = schedule_on_expiry(own.record("by setting"), seconds=600)
        assert result.cancel() is True
    finally:
        sentinel.remove()


def test_what_others_hold_is_not_given_back_by_an_expiry_worker(idle_site: Site) -> None:
    """kombu looks at each connect for messages held longer than the visibility timeout, by its own clock."""
    idle_site.app.send_task("ledger.record", ("held",))
    with idle_site.app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        with idle_site.app.amqp.TaskConsumer(channel) as consumer:
            consumer.register_callback(lambda body, message: None)
            connection.drain_events(timeout=5)
            [(held, since)] = idle_site.queues.zrange("unacked_index", 0, -1, withscores=True)
            # as a worker sees it whose clock is two hours ahead
            idle_site.queues.zadd("unacked_index", {held: since - 7200})
            worker = idle_site.expiry()
            schedule_on_expiry(idle_site.record("fired"), seconds=0.1)
            eventually(lambda: idle_site.queues.llen("celery") == 1, what="the timer is in the queue")
            assert idle_site.queues.hlen("unacked") == 1
            assert worker.process.running


def test_an_option_that_costs_the_batches_is_told(site: Site) -> None:
    worker = site.expiry(broker_transport_options={"retry_on_timeout": True})
    schedule_on_expiry(site.record("x"), seconds=0)
    site.wait_run("x")
    worker.wait_for(r"WARNING.*retry_on_timeout.*Remedy")

"""One process for all: an ordinary worker that fires timers, too (`--expiry`)."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.workers import EXPIRY_READY, Worker
from tests.site import Site, once_each
from tests.waiting import eventually

POOLS = {
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "2"),
    "solo": ("-P", "solo"),
}


@pytest.fixture
def site(make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer]) -> Site:
    """A site where nobody runs tasks but the workers of the test."""
    return make_site(shared_redis(use="idle"))


def both(site: Site, *options: str, name: str = "both", **conf: Any) -> Worker:
    """A worker that runs tasks and fires timers, ready for both."""
    worker = site.worker(name, "--expiry", *(options or POOLS["threads"]), **conf)
    worker.wait_for(EXPIRY_READY)
    return worker


def asked(site: Site, worker: Worker, method: str, *arguments: Any) -> Any:
    inspect = site.app.control.inspect([worker.hostname], timeout=10)
    return (getattr(inspect, method)(*arguments) or {})[worker.hostname]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_one_process_fires_and_runs(site: Site, pool: str) -> None:
    """Timers of others, timers that its own tasks schedule, and a warm shutdown that ends both."""
    worker = both(site, *POOLS[pool])
    summary = schedule_many_on_expiry((site.record(number), 0.1 * number) for number in range(10))
    assert summary.scheduled == 10
    site.task("spawn").delay("from a task", 0.2)
    once_each(site.drain(12), [*range(10), "spawner", "from a task"])
    schedule_on_expiry(site.record("later"), seconds=3600)
    assert worker.stop() == 0, worker.process.tail()
    assert "expiry: stopped" in worker.log
    assert "Traceback" not in worker.log
    assert site.waiting() == 1


def test_processes_that_are_forked_later(site: Site) -> None:
    """Each task in a process forked while timers fire: none inherits what would harm it."""
    worker = both(site, *POOLS["prefork"], "--max-tasks-per-child", "1")
    count = 5
    for number in range(count):
        site.task("spawn").delay(number, 0.05 * number)
    runs = site.drain(2 * count)
    once_each([run for run in runs if run["label"] != "spawner"], range(count))
    assert len({tuple(run["worker"]) for run in runs}) > count, "no process was forked meanwhile"
    assert worker.stop() == 0, worker.process.tail()


def test_a_long_task_holds_no_timer_up(site: Site) -> None:
    """The pool solo runs tasks where Celery's loop turns; timers have threads of their own."""
    both(site, *POOLS["solo"])
    site.task("wait_for").delay("held", "let go")
    site.wait_run("held")
    # as far as the queue: there is nobody else to run it
    schedule_on_expiry(site.record("fired").set(queue="other"), seconds=0.2)
    eventually(lambda: site.redis.llen("other") == 1, what="fired while the task runs")
    assert not site.runs("let go")
    site.redis.set("let go", "1")
    site.wait_run("let go")


def test_a_warm_shutdown_lets_a_task_finish(site: Site) -> None:
    worker = both(site, *POOLS["prefork"])
    site.task("wait_for").delay("held", "let go")
    site.wait_run("held")
    worker.process.signal(signal.SIGTERM)
    worker.wait_for(r"expiry: stopped")
    assert worker.process.running
    site.redis.set("let go", "1")
    assert worker.process.wait(20) == 0, worker.process.tail()
    site.wait_run("let go")


def test_a_cold_shutdown_loses_nothing(site: Site) -> None:
    worker = both(site, *POOLS["prefork"], expiry_lease=5)
    count = 2000
    assert schedule_many_on_expiry((site.record(n).set(queue="other"), 0) for n in range(count)).errors == []
    eventually(lambda: site.redis.llen("other") > 0, every=0.001, what="the first ones fired")
    worker.process.signal(signal.SIGQUIT)
    worker.process.wait(30)
    claimed = site.redis.zcard(site.key("claimed"))
    assert site.redis.llen("other") + site.waiting() + claimed >= count
    both(site, name="next", expiry_lease=5)
    eventually(
        lambda: site.redis.llen("other") >= count and not site.stored(), what=lambda: str(site.stored())
    )


def test_several_and_a_dedicated_one(site: Site) -> None:
    """However many fire, each timer is one message."""
    dedicated = site.expiry("dedicated", "--expiry", ready=False)
    workers = [site.worker(name, "--expiry", *POOLS["threads"], ready=False) for name in ("one", "two")]
    for worker in (dedicated, *workers):
        worker.wait_for(EXPIRY_READY, timeout=30)
    dedicated.wait_for(r"WARNING.*--expiry")
    count = 300
    summary = schedule_many_on_expiry((site.record(number), 0.002 * number) for number in range(count))
    assert summary.scheduled == count
    once_each(site.drain(count), range(count))
    assert asked(site, dedicated, "active_queues") == []


def test_the_setting_and_who_is_exempt(site: Site) -> None:
    asked_by_setting = site.ordinary("setting", expiry_in_worker=True, ready=False)
    exempt = site.ordinary("exempt", "--no-expiry", expiry_in_worker=True, ready=False)
    unasked = site.ordinary("unasked", ready=False)
    for worker in (asked_by_setting, exempt, unasked):
        worker.wait_ready()
    asked_by_setting.wait_for(EXPIRY_READY)
    assert "expiry" in asked(site, asked_by_setting, "stats")
    for worker in (exempt, unasked):
        assert "expiry" not in asked(site, worker, "stats")
        assert "expiry: " not in worker.log


def test_what_tools_are_answered(site: Site) -> None:
    """Its own ETA tasks and the timers; its pool and queues are an ordinary worker's."""
    worker = both(site, *POOLS["prefork"], "--autoscale", "3,1")
    held = site.record("held").apply_async(countdown=1000)
    timer = schedule_on_expiry(site.record("timer"), seconds=2000, key="name")
    eventually(lambda: len(asked(site, worker, "scheduled")) == 2, what="both are scheduled")
    told = asked(site, worker, "scheduled")
    assert [entry["request"]["id"] for entry in told] == [held.id, timer.id]
    found = asked(site, worker, "query_task", [held.id, timer.id, "unknown"])
    assert {id: state for id, (state, _) in found.items()} == {held.id: "scheduled", timer.id: "scheduled"}
    stats = asked(site, worker, "stats")
    assert stats["expiry"]["waiting"] == 1
    assert stats["pool"]["max-concurrency"] >= 1
    assert [queue["name"] for queue in asked(site, worker, "active_queues")] == ["celery"]
    ranged = site.app.control.autoscale(4, 1, [worker.hostname], reply=True, timeout=10)
    assert "ok" in ranged[0][worker.hostname]
    with site.app.connection_or_acquire() as connection:
        # as by a process that does not import the package: told to the workers, and not to Redis
        ids = [held.id, timer.id]
        site.app.control.mailbox(connection)._broadcast("revoke", {"task_id": ids})
    eventually(lambda: site.waiting() == 0, what="the timer is cancelled")
    assert set(asked(site, worker, "revoked")) >= {held.id}


def test_tasks_do_not_wait_for_the_timers_redis(
    make_site: Callable[..., Site], site: Site, start_redis: Callable[..., RedisServer]
) -> None:
    proxy = Proxy(("127.0.0.1", site.server.port))
    try:
        proxy.refuse()
        conf = {"expiry_redis_url": site.server.url(port=proxy.port)}
        worker = site.worker("both", "--expiry", *POOLS["threads"], **conf)
        worker.wait_for(r"expiry start: .*can't be reached")
        site.record("a task").delay()
        site.wait_run("a task")
        leaving = site.worker("leaving", "--expiry", *POOLS["threads"], **conf)
        leaving.wait_for(r"expiry start: .*can't be reached")
        assert leaving.stop() == 0, leaving.process.tail()
        proxy.accept_again()
        worker.wait_for(EXPIRY_READY)
        schedule_on_expiry(site.record("a timer"), seconds=0)
        site.wait_run("a timer")
    finally:
        proxy.close()


def test_a_foreign_namespace_ends_it(make_site: Callable[..., Site], site: Site) -> None:
    site.expiry("first").stop()
    other = make_site(site.server, main="another", expiry_namespace=site.config["main"])
    worker = other.worker("second", "--expiry", *POOLS["threads"], ready=False)
    eventually(lambda: not worker.process.running, timeout=30, what=lambda: worker.process.tail())
    assert worker.process.wait(1) == 1
    assert "expiry_namespace" in worker.log
    assert "Traceback" not in worker.log


def test_multi_hands_the_option_on(site: Site) -> None:
    shown = site.celery("multi", "show", "all", "-A", "ledger_app:app", "--expiry", "-c", "1")
    assert re.search(r"worker .*--detach .*--expiry\b(?!=)", shown), shown

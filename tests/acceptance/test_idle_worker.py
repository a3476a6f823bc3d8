"""The expiry worker as a member of the family: how it starts, what it says, how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.proxy import Proxy
from tests.site import Site
from tests.waiting import eventually


def test_help_lists_the_pool_and_the_option(idle_site: Site) -> None:
    told = idle_site.celery("worker", "--help")
    pools = re.search(r"--pool \[(.*?)\]", told, re.DOTALL)
    assert pools, told
    assert "expiry" in re.sub(r"\s", "", pools.group(1)).split("|")
    assert "--expiry / --no-expiry" in told


def test_it_says_what_it_watches(idle_site: Site) -> None:
    for number in range(3):
        schedule_on_expiry(idle_site.record(number), seconds=3600)
    worker = idle_site.expiry()
    line = worker.wait_for(r".*expiry: watching redis.*").group(0)
    assert f"127.0.0.1:{idle_site.server.port}" in line
    worker.wait_for(r"expiry: .*\b3\b.*(timer|waiting)")
    worker.wait_for(r"expiry: .*notifications.*\bon\b")


def test_it_adds_the_flags_it_needs_and_removes_none(idle_site: Site) -> None:
    idle_site.redis.config_set("notify-keyspace-events", "Eg$")
    idle_site.expiry()
    flags = set(str(idle_site.redis.config_get("notify-keyspace-events")["notify-keyspace-events"]))
    assert {"E", "g", "$"} <= flags
    assert "K" in flags
    assert flags & {"x", "A"}


def test_it_leaves_the_flags_alone_where_told_to(idle_site: Site) -> None:
    worker = idle_site.expiry(expiry_configure_notifications=False)
    assert idle_site.redis.config_get("notify-keyspace-events")["notify-keyspace-events"] == ""
    worker.wait_for(r"WARNING.*notify-keyspace-events")  # what is wrong, and the remedy
    result = schedule_on_expiry(idle_site.record("without events"), seconds=0.5)
    eventually(lambda: idle_site.redis.llen("celery") == 1, what=lambda: f"{result.id} fired\n{worker.log}")


def test_concurrency_is_ignored_with_a_word(idle_site: Site) -> None:
    worker = idle_site.expiry("expiry", "-c", "4")
    worker.wait_for(r"expiry: .*(-c\b|concurrency)")
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    if children.exists():
        assert children.read_text().split() == []


def test_it_consumes_no_task_queue(idle_site: Site) -> None:
    worker = idle_site.expiry()
    idle_site.record("left alone").apply_async()
    # A timer that has come through since shows that there was time to take the message.
    schedule_on_expiry(idle_site.record("timer"), seconds=0)
    eventually(lambda: idle_site.redis.llen("celery") == 2, what="both messages in the queue")
    queues = idle_site.app.control.inspect([worker.hostname], timeout=10).active_queues()
    assert queues == {worker.hostname: []}, worker.log
    assert idle_site.redis.llen("celery") == 2
    assert idle_site.redis.hlen("unacked") == 0


def test_it_answers_as_any_worker(idle_site: Site) -> None:
    worker = idle_site.expiry()
    inspect = idle_site.app.control.inspect([worker.hostname], timeout=10)
    assert inspect.ping() == {worker.hostname: {"ok": "pong"}}
    stats = (inspect.stats() or {})[worker.hostname]
    assert "expiry" in stats["pool"]["implementation"]
    assert stats["pid"] == worker.process.pid


def test_warm_shutdown_leaves_nothing_claimed(idle_site: Site) -> None:
    count = 5000
    summary = schedule_many_on_expiry((idle_site.record(number), 0) for number in range(count))
    assert (summary.scheduled, summary.errors) == (count, [])
    worker = idle_site.expiry(ready=False)
    eventually(
        lambda: idle_site.redis.llen("celery") > 0, timeout=40, every=0.001, what="the first ones fired"
    )
    assert worker.stop() == 0, worker.process.tail()
    assert idle_site.redis.zcard(idle_site.key("claimed")) == 0
    assert idle_site.redis.llen("celery") + idle_site.waiting() == count, idle_site.stored()


def test_idle_worker_ends_on_sigterm(idle_site: Site) -> None:
    worker = idle_site.expiry()
    schedule_on_expiry(idle_site.record("much later"), seconds=86400)
    assert worker.stop() == 0, worker.process.tail()
    assert idle_site.waiting() == 1


def test_idle_costs_nothing(idle_site: Site) -> None:
    """No polling, whatever waits: a few commands a minute."""
    summary = schedule_many_on_expiry((idle_site.record(number), 86400) for number in range(1000))
    assert summary.scheduled == 1000
    proxy = Proxy(("127.0.0.1", idle_site.server.port))
    try:
        idle_site.expiry(expiry_redis_url=idle_site.server.url(port=proxy.port))
        schedule_on_expiry(idle_site.record("the last work"), seconds=0)
        eventually(lambda: idle_site.redis.llen("celery") == 1, what="fired")
        eventually(lambda: idle_site.waiting() == 1000, what="forgotten")
        assert proxy.counts()["EVALSHA"] > 0  # the proxy sees what it sends
        proxy.seen.clear()
        end = idle_site.now() + 5
        eventually(lambda: idle_site.now() > end, every=0.5, what="five idle seconds")
        assert len(proxy.seen) <= 2, list(proxy.seen)
    finally:
        proxy.close()


@pytest.mark.parametrize("events", [True, False], ids=["events", "no-events"])
def test_a_backlog_holds_nobody_up(idle_site: Site, events: bool) -> None:
    """What falls due now does not wait for the end of what fell due while nobody was there."""
    count = 10_000
    assert schedule_many_on_expiry((idle_site.record(n), 0) for n in range(count)).scheduled == count
    worker = idle_site.expiry(ready=False, expiry_configure_notifications=events)
    begun = "the backlog's first"
    eventually(lambda: idle_site.redis.llen("celery") > 0, timeout=40, every=0.001, what=begun)
    schedule_on_expiry(idle_site.record("fresh").set(queue="fresh"), seconds=0.05)
    eventually(lambda: idle_site.redis.llen("fresh") == 1, every=0.001, what=lambda: worker.process.tail())
    left = count - idle_site.redis.llen("celery")
    assert left > 0, "the fresh one came last"
    eventually(
        lambda: idle_site.redis.llen("celery") == count, timeout=40, what=lambda: worker.process.tail()
    )
    idle_site.wait_forgotten()
    assert idle_site.redis.llen("celery") == count


def test_celery_multi_starts_and_stops_it(idle_site: Site, tmp_path: Path) -> None:
    files = [f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n.multi.log"]
    start = ("multi", "start", "clock", "-A", "ledger_app:app", "-P", "expiry", "-l", "INFO", *files)
    told = idle_site.celery(*start)
    pidfile, log = tmp_path / "clock.pid", tmp_path / "clock.multi.log"
    try:
        eventually(pidfile.exists, timeout=30, what=lambda: f"a pidfile\n{told}")
        pid = int(pidfile.read_text())
        eventually(
            lambda: log.exists() and "expiry: watching" in log.read_text(), timeout=30, what="its log's line"
        )
        schedule_on_expiry(idle_site.record("by multi"), seconds=0.2)
        eventually(lambda: idle_site.redis.llen("celery") == 1, what=lambda: f"fired\n{log.read_text()}")
        told = idle_site.celery("multi", "stopwait", "clock", "-A", "ledger_app:app", *files, timeout=40)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), timeout=20, what=lambda: f"its end\n{told}")
        assert not pidfile.exists()
    finally:
        if pidfile.exists():
            subprocess.run(["kill", "-9", pidfile.read_text().strip()], check=False)


def test_it_waits_for_its_redis(idle_site: Site) -> None:
    """As a worker waits for its broker; and a warm shutdown ends the waiting."""
    proxy = Proxy(("127.0.0.1", idle_site.server.port))
    url = idle_site.server.url(port=proxy.port)
    try:
        proxy.refuse()
        waiting = idle_site.expiry("patient", ready=False, expiry_redis_url=url)
        leaving = idle_site.expiry("leaving", ready=False, expiry_redis_url=url)
        for worker in (waiting, leaving):
            worker.wait_for(r"expiry: .*can't be reached")
        leaving.process.signal(signal.SIGTERM)
        leaving.process.wait(20)
        proxy.accept_again()
        waiting.wait_ready(40)
    finally:
        proxy.close()


@pytest.mark.parametrize("foreign", ["app", "broker"])
def test_a_foreign_namespace_is_refused(
    make_site: Callable[..., Site], idle_site: Site, foreign: str
) -> None:
    """Two apps with one namespace in one Redis would fire each other's timers: the second must not start."""
    idle_site.expiry("first").stop()
    schedule_on_expiry(idle_site.record("mine"), seconds=3600)
    others: dict[str, dict[str, Any]] = {
        "app": {"main": "another", "expiry_namespace": idle_site.config["main"]},
        "broker": {"broker": idle_site.server.url(7)},
    }
    other = make_site(idle_site.server, **others[foreign])
    worker = other.expiry("second", ready=False)
    end = 30.0
    eventually(lambda: not worker.process.running, timeout=end, what=lambda: worker.process.tail())
    assert worker.process.wait(1) != 0
    assert "expiry_namespace" in worker.log, "the remedy is not told"
    assert "expiry: watching" not in worker.log
    assert "Traceback" not in worker.log


def test_another_namespace_keeps_its_own_timers(make_site: Callable[..., Site], idle_site: Site) -> None:
    """Two apps side by side: each worker fires its own app's timers and nobody else's."""
    idle_site.expiry("first")
    other = make_site(idle_site.server, broker=idle_site.server.url(7), main="another")
    theirs = other.server.client(7)
    schedule_on_expiry(other.record("theirs"), seconds=0)
    schedule_on_expiry(idle_site.record("ours"), seconds=0)
    eventually(lambda: idle_site.redis.llen("celery") == 1, what="ours fired")
    assert other.redis.zcard("{expiry.another.0}:due") == 1
    other.expiry("second")
    eventually(lambda: theirs.llen("celery") == 1, what="theirs fired")
    assert idle_site.redis.llen("celery") == 1
    theirs.flushdb()
    theirs.close()

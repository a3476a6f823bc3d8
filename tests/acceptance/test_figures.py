"""What an expiry worker tells of itself: `celery inspect stats`, and metrics as Prometheus scrapes them.

All of it with one worker, whose figures go on from test to test; its timers are in a Redis of their own.
"""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import group
from prometheus_client.parser import text_string_to_metric_families

from celery_redis_expiry import get_timer, schedule_on_expiry
from celery_redis_expiry.keys import place
from tests.monitoring import expressions, named
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually

PASSWORD = "never-shown"
COUNTS = ("waiting", "parked", "due", "claimed", "dead")


class Watched:
    """One expiry worker, which must not configure notifications: they are on while the test says so."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.notify("Kx")
        url = site.server.url(user="default", password=PASSWORD)
        self.worker: Worker = site.expiry(
            expiry_metrics_port=0, expiry_configure_notifications=False, expiry_redis_url=url
        )
        self.url = self.worker.wait_for(r"expiry: metrics at (http://\S+)").group(1)

    def notify(self, flags: str) -> None:
        self.site.redis.config_set("notify-keyspace-events", flags)

    def stats(self) -> dict[str, Any]:
        """The block `expiry`, by the way that `celery inspect stats` goes."""
        told = self.site.app.control.inspect([self.worker.hostname], timeout=5).stats()
        assert told, self.worker.log
        block: dict[str, Any] = told[self.worker.hostname]["expiry"]
        assert PASSWORD not in json.dumps(block)
        return block

    def text(self) -> str:
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            return str(answer.read().decode())

    def scrape(self) -> dict[str, float]:
        """Every sample: its name, with the values of its labels behind it."""
        return {
            " ".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def fire(self, count: int, seconds: float = 0.1) -> None:
        queued = self.site.queues.llen("celery")
        for number in range(count):
            schedule_on_expiry(self.site.record(number), seconds=seconds)
        eventually(lambda: self.site.queues.llen("celery") == queued + count, what=lambda: self.worker.log)
        self.site.wait_forgotten()


@pytest.fixture(scope="module")
def watched(
    start_redis: Callable[..., RedisServer],
    shared_redis: Callable[..., RedisServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    site = Site(start_redis(), tmp_path_factory.mktemp("watched"), beside=shared_redis(use="idle"))
    site.reset()
    try:
        yield Watched(site)
    finally:
        site.close()


def test_what_was_told_by_an_event_and_what_was_swept(watched: Watched) -> None:
    watched.fire(3)
    told, before = watched.stats(), watched.scrape()
    assert told["notifications"] is True
    assert told["fired"] == told["fired_by_event"] + told["fired_by_sweep"] == 3
    assert told["fired_by_event"] > 0
    assert 0 < told["lateness"]["p50"] <= told["lateness"]["p99"] <= told["lateness"]["max"] < 60
    assert (told["lateness"]["count"], told["lateness"]["window"]) == (3, 300)

    watched.notify("")
    watched.fire(2)
    after = watched.stats()
    assert after["fired_by_sweep"] - told["fired_by_sweep"] == 2
    assert after["fired_by_event"] == told["fired_by_event"]
    eventually(
        lambda: watched.scrape()["celery_expiry_notifications_on"] == 0, what="they are known to be off"
    )
    assert watched.stats()["notifications"] is False

    scraped = watched.scrape()
    for how in ("event", "sweep"):
        fired = after[f"fired_by_{how}"]
        assert scraped[f"celery_expiry_fired_total {how}"] == fired
        assert scraped[f"celery_expiry_lateness_seconds_count {how}"] == fired
        assert scraped[f"celery_expiry_lateness_seconds_bucket {how} +Inf"] == fired
    late = "celery_expiry_lateness_seconds_sum sweep"
    # nobody was told, so the grace for their events came on top
    assert scraped[late] - before[late] > 0
    watched.notify("Kx")


def test_what_waits_and_what_is_buried(watched: Watched) -> None:
    site, before = watched.site, watched.scrape()
    schedule_on_expiry(site.record("waits"), seconds=3600)
    parked = get_timer(schedule_on_expiry(site.record("parked"), seconds=3600), app=site.app)
    assert parked is not None
    site.redis.persist(parked.trigger_key)
    member = place(parked.trigger_key.partition("trigger:")[2])
    site.redis.zrem(site.key("due"), member)
    site.redis.zadd(site.key("parked"), {member: 4e12})
    damaged = get_timer(schedule_on_expiry(site.record("damaged"), seconds=0.5), app=site.app)
    assert damaged is not None
    site.redis.hset(site.key("timers"), place(damaged.trigger_key.partition("trigger:")[2]), "garbage")
    eventually(lambda: site.dead() == 1, what=lambda: watched.worker.log)
    told = watched.stats()
    assert {name: told[name] for name in COUNTS} == {
        **{"waiting": 1, "parked": 1, "due": 0, "claimed": 0, "dead": 1},
    }
    assert (told["namespace"], told["shards"]) == ("ledger", 1)
    assert f"127.0.0.1:{site.server.port}" in told["redis"]
    scraped = watched.scrape()
    gauges = ("waiting_timers", "parked_timers", "overdue_timers", "claimed_timers", "dead_letters")
    assert [scraped[f"celery_expiry_{name}"] for name in gauges] == [1, 1, 0, 0, 1]
    dead = "celery_expiry_dead_lettered_total"
    assert scraped[dead] - before[dead] == 1
    site.redis.flushdb()


def test_a_canvas_counts_once(watched: Watched) -> None:
    site, before = watched.site, watched.stats()["fired"]
    queued = site.queues.llen("celery")
    with site.current():
        schedule_on_expiry(group(site.record(1), site.record(2)), seconds=0.1)
    eventually(lambda: site.queues.llen("celery") == queued + 2, what=lambda: watched.worker.log)
    eventually(lambda: watched.stats()["fired"] == before + 1, what=lambda: watched.worker.log)


def test_a_scrape_costs_little(watched: Watched) -> None:
    def calls() -> dict[str, int]:
        with watched.site.server.client() as client:
            client.config_resetstat()
            watched.scrape()
            told: Any = client.info("commandstats")
        ours = ("config", "config|resetstat", "info", "select", "auth", "client|setinfo", "client")
        counted = {name.removeprefix("cmdstat_"): one["calls"] for name, one in told.items()}
        return {name: count for name, count in counted.items() if name not in ours}

    # once, at least, nothing else comes between
    wanted = {"time": 1, "zcard": 4, "zcount": 1, "zrangebyscore": 1}
    eventually(lambda: calls() == wanted, timeout=5, what=lambda: f"{wanted}; there were {calls()}")


def test_redis_hangs_dies_and_comes_back(watched: Watched) -> None:
    """What the worker knows of itself is told all the same, and soon."""
    site, before = watched.site, watched.stats()
    server: Any = site.server
    assert before["fired"] > 0
    server.process.signal(signal.SIGSTOP)
    try:
        hanging = watched.stats()
        assert "did not answer within" in hanging["error"]
        assert watched.scrape()["celery_expiry_redis_up"] == 0
    finally:
        server.process.signal(signal.SIGCONT)
    server.kill()
    dead = watched.stats()
    assert dead.pop("error")
    for told in (hanging, dead):
        assert {told[name] for name in COUNTS} == {None}
        assert told["fired"] == before["fired"]
        assert told["lateness"]["count"] == before["lateness"]["count"]
    scraped = watched.scrape()
    assert "celery_expiry_waiting_timers" not in scraped
    assert scraped["celery_expiry_fired_total event"] == before["fired_by_event"]
    server.start()
    eventually(lambda: watched.stats()["waiting"] == 0, what=lambda: watched.worker.log)
    assert watched.scrape()["celery_expiry_redis_up"] == 1


def test_dashboard_and_alerts_name_what_is_served(watched: Watched) -> None:
    served = {name.partition(" ")[0] for name in watched.scrape()}
    assert len(expressions()) > 20
    for expression in expressions():
        assert named(expression), expression
        assert named(expression) <= served, expression

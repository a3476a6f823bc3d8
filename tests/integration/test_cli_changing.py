"""`celery expiry cancel`, `reschedule`, `fire` and `purge`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import get_timer, iter_timers, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store import Shard, purge, store_of
from celery_redis_expiry.store.purging import BULK
from tests.integration.commands import expiry, told
from tests.servers.cluster import RedisCluster
from tests.site import Site

pytestmark = pytest.mark.usefixtures("current")


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def test_cancel(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), 600, key="a")
    id = schedule_on_expiry(site.record(2), 600).id
    schedule_on_expiry(site.record(3), 0, key="claimed")
    while not shard.claim([(str(shard.find("claimed")), True)], token="t", lease=60):
        pass
    result = expiry(site.app, "cancel", "a", id, "nobody", "claimed", code=1)
    assert result.stdout == f"cancelled a\ncancelled {id}\n"
    assert "nobody: no such timer" in result.stderr
    assert "claimed: it is being published" in result.stderr
    schedule_on_expiry(site.record(1), 600, key="a")
    assert told(site.app, "cancel", "a") == [{"timer": "a", "cancelled": True, "state": None, "due": None}]
    assert site.waiting() == 0
    expiry(site.app, "cancel", code=2)


def test_reschedule(site: Site) -> None:
    site.app.conf.timezone = "Asia/Tokyo"
    schedule_on_expiry(site.record(1), 600, key="a")

    def due() -> datetime:
        timer = get_timer("a")
        assert timer
        assert timer.due
        return timer.due

    expiry(site.app, "reschedule", "a", "--seconds", "7200")
    assert due() - datetime.now(timezone.utc) > timedelta(minutes=110)
    expiry(site.app, "reschedule", "a", "--at", "1d")
    assert due() - datetime.now(timezone.utc) > timedelta(hours=23)
    output = expiry(site.app, "reschedule", "a", "--at", "2031-01-31T12:00").stdout
    assert due() == datetime(2031, 1, 31, 3, tzinfo=timezone.utc)
    assert "due 2031-01-31 12:00:00+09:00" in output
    [answer] = told(site.app, "reschedule", "a", "--at", "2031-01-31T12:00Z")
    assert answer == {
        "timer": "a",
        "rescheduled": True,
        "state": "waiting",
        "due": "2031-01-31T12:00:00+00:00",
    }
    assert (
        "nobody: no such timer" in expiry(site.app, "reschedule", "nobody", "--seconds", "1", code=1).stderr
    )
    for wrong in ((), ("--seconds", "1", "--at", "1d"), ("--seconds", "-1"), ("--at", "soon")):
        expiry(site.app, "reschedule", "a", *wrong, code=2)


def test_fire(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), 600, key="a")
    schedule_on_expiry(site.record(2), 600, key="b")
    result = expiry(site.app, "fire", "a", "nobody", code=1)
    assert result.stdout == "fired a\n"
    [waiting] = told(site.app, "list", "--due-before", "0s")
    assert waiting["name"] == "a"


@pytest.fixture
def beyond_recall(site: Site, shard: Shard) -> tuple[str, str]:
    """The names of two timers: one is being published, the other may have been."""
    names = "claimed", "unsure"
    for name in names:
        schedule_on_expiry(site.record(1), 0, key=name)
        while not (claims := shard.claim([(str(shard.find(name)), True)], token=new_token(), lease=60)):
            pass
    shard.release(claims[0].token, claims, delay=600, unsure=True)
    return names


@pytest.mark.parametrize("command", ["cancel", "fire"])
def test_what_is_being_published_is_not_sent_twice(
    site: Site, beyond_recall: tuple[str, str], command: str
) -> None:
    before = site.stored()
    result = expiry(site.app, command, *beyond_recall, code=1)
    assert result.stderr.count("it is being published, or may have been") == 2
    assert site.stored() == before


@pytest.fixture
def many(site: Site) -> int:
    """More of one due time than a page holds, and others."""
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    number = 4 * BULK + 30
    schedule_many_on_expiry(
        {"signature": site.record(n), "at": at, "key": f"{'even' if n % 2 == 0 else 'odd'}:{n}"}
        for n in range(number)
    )
    schedule_many_on_expiry((site.task("add").s(1, n), 10_800 + 60 * n) for n in range(30))
    return number


def test_purge_all(site: Site, many: int) -> None:
    assert expiry(site.app, "purge", input="n\n", code=1).stderr.startswith(
        "WARNING: This will forget all 460"
    )
    assert site.waiting() == many + 30
    assert told(site.app, "purge", "--force") == [{"purged": many + 30, "claimed": 0}]
    assert site.stored() == {}
    assert expiry(site.app, "purge", "-y").stdout == "0 timers purged\n"


def test_purge_what_fits(site: Site, shard: Shard, many: int) -> None:
    """What stays between those that go is passed over by none of the next pages."""
    result = expiry(site.app, "purge", "--name", "even:*", input="y\n")
    assert "those of 460 timers that fit" in result.stderr
    assert f"{many // 2} timers purged" in result.stdout
    assert all(
        timer["name"].startswith("odd") for timer in told(site.app, "list", "-l", "999", "-t", "*record")
    )
    [some] = told(site.app, "purge", "-f", "--task", "ledger.add", "--due-after", "200m30s")
    assert some["purged"] == 9
    assert told(site.app, "purge", "-f", "--due-before", "2h")[0]["purged"] == many // 2
    schedule_on_expiry(site.record(1), 600, key="parked")
    site.redis.persist(site.key(f"trigger:{shard.find('parked')}"))
    shard.touch([str(shard.find("parked"))])
    assert told(site.app, "purge", "-f", "--state", "parked") == [{"purged": 1, "claimed": 0}]
    assert site.waiting() == 21


def test_what_is_being_published_is_beyond_recall(site: Site, beyond_recall: tuple[str, str]) -> None:
    schedule_on_expiry(site.record(1), 600, key="waiting")
    assert told(site.app, "purge", "-f") == [{"purged": 1, "claimed": 2}]
    assert (get_timer("claimed") and get_timer("unsure")) is not None
    assert "2 are being published, or may have been" in expiry(site.app, "purge", "-f").stdout


def test_what_stays_is_looked_at_once(site: Site, shard: Shard) -> None:
    """More than a page of one due time that may have been published, between others that wait."""
    number = 3 * BULK
    schedule_many_on_expiry((site.record(n), 0) for n in range(number))
    members = [(timer.trigger_key.partition("trigger:")[2], True) for timer in iter_timers()]
    while len(claims := shard.claim(members, token="t", lease=60)) < number:
        pass
    shard.release("t", claims, delay=600, unsure=True)
    schedule_many_on_expiry((site.record(n), 300 + n) for n in range(BULK - 1))
    schedule_on_expiry(site.record("last"), 700)
    seen: list[int] = []
    assert purge(store_of(site.app), Selection(), progress=seen.append) == (BULK, number)
    assert sum(seen) == number + BULK


def test_monitors_are_told_by_page(site: Site, many: int) -> None:
    pages: list[list[str]] = []
    purge(store_of(site.app), Selection(), cancelled=pages.append)
    ids = [id for page in pages for id in page]
    assert len(ids) == len(set(ids)) == many + 30


def test_a_lost_reply_changes_no_count(site: Site, shard: Shard) -> None:
    """redis-py repeats a call whose reply was lost: it gets the first answer."""
    members = []
    for name in ("a", "b"):
        schedule_on_expiry(site.record(1), 600, key=name)
        members.append(str(shard.find(name)))
    first = shard.cancel(members, "token")
    assert [outcome for outcome, _ in first] == ["cancelled", "cancelled"]
    assert shard.cancel(members, "token") == first
    assert [outcome for outcome, _ in shard.cancel(members, "another")] == ["gone", "gone"]


def test_purge_on_a_cluster(redis_cluster: RedisCluster, tmp_path: Path) -> None:
    app = Celery("purged", broker="memory://", set_as_current=False)
    app.conf.update(expiry_redis_url=redis_cluster.url())

    @app.task(shared=False, name="purged.task")
    def task(number: int) -> None: ...

    schedule_many_on_expiry(
        ({"signature": task.s(n), "seconds": 600, "key": f"{n % 2}:{n}"} for n in range(200)), app=app
    )
    counted: list[Any] = []
    assert purge(store_of(app), Selection(name="1:*"), progress=counted.append).purged == 100
    assert sum(counted) == 200
    assert store_of(app).counts()["waiting"] == 100

"""Real workers that fire in place: exactly once, whatever befalls them. Publishing may double a message."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.acceptance.test_lost_replies import runs_script
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

MANY = 1500


@pytest.fixture
def path(shared_redis: Callable[..., RedisServer]) -> Iterator[Proxy]:
    """The way of the expiry worker to timers and broker alike."""
    proxy = Proxy(("127.0.0.1", shared_redis(use="idle").port))
    yield proxy
    proxy.close()


def schedule(site: Site, seconds: float, over: float = 0.0) -> None:
    items = ((site.record(number), seconds + over * number / MANY) for number in range(MANY))
    assert schedule_many_on_expiry(items).scheduled == MANY


def queued(site: Site) -> list[str]:
    """The ids of the messages in the queue."""
    return [json.loads(message)["headers"]["id"] for message in site.queues.lrange("celery", 0, -1)]


def once_each(site: Site, count: int) -> None:
    """All are in the queue, once, and nothing of them is left."""
    site.wait_forgotten(40)
    counted = Counter(queued(site))
    assert (len(counted), set(counted.values())) == (count, {1})


def stats(site: Site, name: str) -> dict[str, Any]:
    told = site.app.control.inspect([f"{name}@test"], timeout=10, limit=1).stats()
    found: dict[str, Any] = told[f"{name}@test"]["expiry"]
    return found


def test_it_does_so_by_itself_and_says_so(idle_site: Site) -> None:
    worker = idle_site.expiry("mine")
    schedule_on_expiry(idle_site.record(1), seconds=0.2)
    once_each(idle_site, 1)
    told = stats(idle_site, "mine")
    assert (told["in_place"], told["not_in_place"], told["fired_in_place"]) == (True, None, 1)
    assert worker.wait_for("INFO.*timers are fired in place")
    assert worker.stop() == 0


def test_turned_off(idle_site: Site) -> None:
    idle_site.expiry("mine", expiry_fire_in_place=False)
    schedule_on_expiry(idle_site.record(1), seconds=0.2)
    once_each(idle_site, 1)
    told = stats(idle_site, "mine")
    assert (told["in_place"], told["fired"], told["fired_in_place"]) == (False, 1, 0)
    assert "expiry_fire_in_place" in told["not_in_place"]


def test_killed_while_all_fall_due(idle_site: Site) -> None:
    """kill -9 of one worker after the other: each timer once, and no lease to be waited for."""
    other = idle_site.expiry("other", ready=False)
    first = idle_site.expiry("first", expiry_batch_size=20, expiry_lease=600)
    other.wait_ready()
    schedule(idle_site, 1.5, over=1.5)
    for number, worker in enumerate((first, other)):
        eventually(
            lambda n=number: idle_site.queues.llen("celery") > MANY * (n + 1) // 4, what="a part fired"
        )  # type: ignore[misc]
        worker.kill()
    assert len(queued(idle_site)) <= MANY
    idle_site.expiry("last", expiry_lease=600)
    once_each(idle_site, MANY)


def test_stopped_while_all_fall_due(idle_site: Site) -> None:
    """For longer than its lease: who wakes up repeats nothing."""
    one = idle_site.expiry("one", expiry_lease=5, expiry_batch_size=20)
    schedule(idle_site, 1.0, over=1.0)
    eventually(lambda: idle_site.queues.llen("celery") > MANY // 4, what="a part fired")
    one.process.signal(signal.SIGSTOP)
    idle_site.expiry("two", expiry_lease=5)
    idle_site.wait_forgotten(40)
    one.process.signal(signal.SIGCONT)
    schedule_on_expiry(idle_site.record("after"), seconds=0)
    once_each(idle_site, MANY + 1)


def test_replies_are_lost(make_site: Any, idle_site: Site, path: Proxy) -> None:
    """Every third reply of the script, and the connection with it."""
    way = idle_site.server.url(port=path.port)
    site = make_site(idle_site.server, broker=way, expiry_redis_url=way)
    worker = site.expiry(expiry_batch_size=20)
    schedule_on_expiry(site.record("warm"), seconds=0)
    once_each(site, 1)
    for nth in range(3, 40, 3):
        path.drop_reply(runs_script("fire"), nth=nth)
    schedule(idle_site, 1.0, over=1.0)
    once_each(site, MANY + 1)
    assert len(path.dropped) > 2
    assert worker.process.running

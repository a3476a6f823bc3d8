"""`expiry_wait_replicas`: a call returns when so many replicas have the timer, or says that they haven't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry import (
    InvalidTimer,
    NotReplicated,
    TimerExists,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("face")


@pytest.fixture
def replica(start_redis: Callable[..., RedisServer], primary: RedisServer) -> RedisServer:
    server = start_redis(None, replicaof=f"127.0.0.1 {primary.port}", repl_diskless_sync_delay="0")
    with primary.client() as client:
        # the primary counts it from its first acknowledgement on, up to a second after the link is up
        eventually(lambda: client.wait(1, 100) == 1, what="it follows")
    return server


@pytest.fixture
def primary(start_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    server = start_redis(None, repl_diskless_sync_delay="0")
    yield server
    server.remove()


@pytest.fixture
def site(make_site: Any, primary: RedisServer) -> Site:
    site: Site = make_site(primary, expiry_wait_replicas=1, expiry_wait_replicas_timeout=0.3)
    return site


def test_the_call_returns_when_a_replica_has_it(
    make_site: Any, primary: RedisServer, replica: RedisServer
) -> None:
    site = make_site(primary, expiry_wait_replicas=1, expiry_wait_replicas_timeout=4)
    with replica.client() as client:
        for number in range(50):
            schedule_on_expiry(site.record(number), seconds=600)
            assert client.zcard(site.key("due")) == number + 1
    replica.remove()


def test_without_one_the_timer_is_stored_and_the_call_says_so(site: Site) -> None:
    with pytest.raises(NotReplicated, match=r"0 of 1 replicas .* IS stored") as caught:
        schedule_on_expiry(site.record("a"), seconds=600, key="a")
    timer = get_timer("a", app=site.app)
    assert timer is not None
    assert caught.value.ids == [timer.id]
    with pytest.raises(NotReplicated):
        reschedule("a", 700, app=site.app)
    assert get_timer("a", app=site.app).remaining > 650  # type: ignore[union-attr]
    with pytest.raises(NotReplicated) as caught:
        schedule_many_on_expiry([(site.record(number), 600) for number in range(20)])
    assert caught.value.summary.scheduled == 20
    assert site.waiting() == 21


def test_what_was_not_stored_is_not_said_to_be(site: Site) -> None:
    with pytest.raises(NotReplicated):
        schedule_on_expiry(site.record("a"), seconds=600, key="a")
    with pytest.raises(TimerExists):
        schedule_on_expiry(site.record("b"), seconds=600, key="a", if_exists="raise")
    with pytest.raises(InvalidTimer, match="9999"):
        schedule_on_expiry(site.record("c"), seconds=3e11)
    assert site.waiting() == 1

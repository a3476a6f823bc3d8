"""Timers whose primary changes: by order, by kill -9, and while there is none."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry import (
    ExpiryError,
    NotReplicated,
    StoreUnavailable,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from tests.conftest import redis_binary
from tests.servers.redis import RedisServer
from tests.servers.sentinel import NAME, Sentinel, SentinelGroup
from tests.site import Run, Site
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(200)
LEASE = 5.0
PER_SECOND = 40


@pytest.fixture(scope="module")
def common_group() -> Iterator[SentinelGroup]:
    group = SentinelGroup(*redis_binary(), replicas=2, appendonly="yes")  # who returns brings its past
    try:
        yield group.start()
    finally:
        group.remove()


@pytest.fixture
def group(common_group: SentinelGroup) -> SentinelGroup:
    common_group.reset()
    return common_group


@pytest.fixture
def apart(group: SentinelGroup, make_site: Any, shared_redis: Callable[..., RedisServer]) -> Site:
    """Timers behind the sentinels; broker, results and ledger on a Redis that stays."""
    return make_site(
        group,
        beside=shared_redis(use="beside"),
        expiry_redis_options=named(group),
        expiry_lease=LEASE,
        expiry_wait_replicas=1,
    )


def named(group: SentinelGroup) -> dict[str, Any]:
    """The options of the sentinels, and a name that the server knows our connections by."""
    return group.options | {"client_name": "expiry"}


def spread(site: Site, count: int, first: float = 1.0) -> None:
    """`count` timers from `first` seconds on, `PER_SECOND` of them due in each."""
    items = ((site.record(number), first + number / PER_SECOND) for number in range(count))
    summary = schedule_many_on_expiry(items)
    assert (summary.scheduled, summary.errors) == (count, [])


def subscribed(server: RedisServer) -> int:
    """How many expiry workers listen here; others may, too."""
    with server.client() as client:
        clients = client.client_list(_type="pubsub")
    return sum(one["name"] == "expiry" and one["psub"] != "0" for one in clients)


def scripts_run(server: RedisServer) -> int:
    with server.client() as client:
        told: Any = client.info("commandstats")
    return sum(int(told.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("eval", "evalsha"))


def repeated(runs: list[Run]) -> dict[Any, list[float]]:
    """When each label ran that ran more than once; every one of them under one task id."""
    times: dict[Any, list[float]] = defaultdict(list)
    ids: dict[Any, set[str]] = defaultdict(set)
    for run in runs:
        times[run["label"]].append(run["at"])
        ids[run["label"]].add(run["request"]["id"])
    assert all(len(of_label) == 1 for of_label in ids.values()), "one timer, several task ids"
    return {label: sorted(at) for label, at in times.items() if len(at) > 1}


def all_ran(site: Site, labels: set[Any]) -> list[Run]:
    """Wait until nothing is stored or queued any more; all these must have run then. Answers all runs."""
    site.wait_forgotten(60)
    site.wait_broker_empty()

    def missing() -> set[Any]:
        return labels - {run["label"] for run in site.runs()}

    # what was taken from the queue last may be running still
    eventually(lambda: not missing(), timeout=10, what=lambda: f"lost: {len(missing())} of {len(labels)}")
    return site.runs()


@pytest.mark.parametrize("broker", ["beside", "same"])
def test_a_planned_failover(
    group: SentinelGroup, make_site: Any, shared_redis: Callable[..., RedisServer], broker: str
) -> None:
    """Nothing is lost. What the old primary acked after its successor was chosen, the successor fires again.

    SENTINEL FAILOVER does not pause the old primary: it goes on as one, for who is connected, until the
    sentinels demote it some seconds later. Where it is the broker as well, message and ack are forgotten
    together.
    """
    conf: dict[str, Any] = {"expiry_redis_options": named(group), "expiry_lease": LEASE}
    if broker == "same":
        conf |= {"broker": group.url(), "broker_transport_options": group.options}
    site = make_site(group, beside=shared_redis(use="beside"), **conf)
    one, two = site.expiry("one", ready=False), site.expiry("two", ready=False)
    one.wait_ready()
    two.wait_ready()
    spread(site, count := 12 * PER_SECOND)
    group.wait_in_step()
    if broker == "beside":
        site.ordinary()
    eventually(lambda: site.waiting() < count - 2 * PER_SECOND, what="they fall due")
    old, began = group.primary(), site.now()
    new = group.failover()
    group.wait_demoted(old)
    demoted = site.now()
    eventually(lambda: subscribed(new) == 2, what="both listen to the new primary")
    assert subscribed(old) == 0
    site.wait_forgotten(60)
    for worker in (one, two):
        worker.wait_for(r"expiry listener: Redis answers again")
    if broker == "same":
        site.ordinary()  # only now: this is not a test of how Celery's own worker takes a failover
    twice = repeated(all_ran(site, set(range(count))))
    if broker == "beside":
        assert all(began - 2 < at[0] < demoted + 1 for at in twice.values()), "repeated without need"
    schedule_on_expiry(site.record("after"), seconds=0.5)
    site.wait_run("after")


def test_killed_under_load(group: SentinelGroup, apart: Site) -> None:
    """What a replica confirmed is not lost, nor doubled unless it was being published at the kill."""
    one, two = apart.expiry("one", ready=False), apart.expiry("two", ready=False)
    apart.ordinary()
    one.wait_ready()
    two.wait_ready()
    confirmed: list[str] = []
    unsure: list[str] = []
    stop = threading.Event()

    def schedule_all_the_time() -> None:
        for number in range(100_000):
            label = f"live {number}"
            try:
                schedule_on_expiry(apart.record(label), seconds=0.5 + number % 50 / 10)
            except ExpiryError:
                unsure.append(label)
            else:
                confirmed.append(label)
            if stop.wait(0.02):
                return

    spread(apart, count := 8 * PER_SECOND)
    group.wait_in_step()
    with apart.current():
        producer = threading.Thread(target=schedule_all_the_time, daemon=True)
        producer.start()
        eventually(lambda: len(apart.runs()) > 2 * PER_SECOND, what="they fall due")
        killed = apart.now()
        new = group.kill_primary()
        before = len(confirmed)
        eventually(lambda: len(confirmed) > before + 50, what="scheduling goes on")
        stop.set()
        producer.join(30)
    assert not producer.is_alive()
    assert before > 0
    assert unsure, "nobody noticed the failover"
    runs = all_ran(apart, set(confirmed) | set(range(count)))
    assert {run["label"] for run in runs} <= set(confirmed) | set(range(count)) | set(unsure)
    twice = repeated(runs)
    assert all(killed - 1 < at[0] < killed + 1 for at in twice.values()), twice
    # they follow: both hear the new primary, by events again
    eventually(lambda: subscribed(new) == 2, what="both listen to the new primary")
    for worker in (one, two):
        worker.wait_for(r"expiry pacer: Redis answers again")
        worker.wait_for(r"expiry: keyspace notifications arrive again")
    worked = scripts_run(new)
    schedule_on_expiry(apart.record("after"), seconds=0.5)
    apart.wait_run("after")
    assert scripts_run(new) > worked


def test_an_old_primary_that_returns_is_left_alone(group: SentinelGroup, apart: Site) -> None:
    """It believes to be a primary still, for some seconds; nobody claims from it or schedules there."""
    apart.expiry("one")
    apart.ordinary()
    spread(apart, count := 16 * PER_SECOND)
    eventually(lambda: len(apart.runs()) > PER_SECOND, what="they fall due")
    old = group.primary()
    group.wait_in_step()
    group.kill_primary()
    old.start()
    with old.client() as client:
        assert client.execute_command("ROLE")[0] == "master"
    more = 0
    while not is_replica(old):
        # stored on the new primary, whose only replica may not have followed it yet
        with contextlib.suppress(NotReplicated):
            schedule_on_expiry(apart.record(f"more {more}"), seconds=0.1)
        more += 1
        assert not subscribed(old)
    assert more
    group.wait_demoted(old)
    assert scripts_run(old) == 0
    all_ran(apart, {*range(count), *(f"more {number}" for number in range(more))})


def is_replica(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.execute_command("ROLE")[0] == "slave")


@pytest.mark.usefixtures("face")
def test_no_primary_is_waited_for(
    start_redis: Callable[..., RedisServer], make_site: Any, shared_redis: Callable[..., RedisServer]
) -> None:
    """Who schedules is told so; a worker that starts says so, and begins once there is one."""
    server = start_redis()
    sentinel = Sentinel(server, down_after_ms=500)
    try:
        server.kill()
        eventually(lambda: "s_down" in sentinel.ask("MASTER", NAME)["flags"], what="the sentinel misses it")
        site = make_site(
            shared_redis(use="idle"),
            broker=shared_redis(use="idle").url(),
            expiry_redis_url=f"sentinel://127.0.0.1:{sentinel.port}/0",
            expiry_redis_options={"master_name": NAME},
        )
        # a sentinel takes a dead primary for a live one, for a moment now and then: then it is tried, in vain
        unreachable = rf"can't be reached: (No master found for '{NAME}'|.*refused|.*Connect call failed)"
        with pytest.raises(StoreUnavailable, match=unreachable):
            schedule_on_expiry(site.record("too early"), seconds=0)
        worker = site.expiry(ready=False)
        worker.wait_for(rf"expiry: .*{unreachable}.*trying again")
        assert "expiry: watching" not in worker.log
        server.start()
        worker.wait_ready(60)
        schedule_on_expiry(site.record("now"), seconds=0)
        eventually(lambda: site.queues.llen("celery") == 1, what=lambda: f"fired\n{worker.process.tail()}")
    finally:
        sentinel.remove()
        server.remove()

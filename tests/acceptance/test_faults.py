"""What dies, is cut off or forgets: nothing is lost by it, and nothing runs twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chord

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site, once_each
from tests.waiting import eventually

MANY = 500


def schedule(site: Site, seconds: float, count: int = MANY, over: float = 0.0) -> None:
    """`count` timers labelled by their number, due from `seconds` on, spread over `over` seconds."""
    items = ((site.record(number), seconds + over * number / count) for number in range(count))
    summary = schedule_many_on_expiry(items)
    assert (summary.scheduled, summary.errors) == (count, [])


def past_the_last(site: Site) -> bool:
    """Whether the latest timer of the index is due."""
    last = site.redis.zrevrange(site.key("due"), 0, 0, withscores=True)
    return bool(last) and last[0][1] < site.now() * 1000


@pytest.fixture
def broker_proxy() -> Iterator[Callable[[int], Proxy]]:
    proxies: list[Proxy] = []

    def make(port: int, *, redis: bool = False) -> Proxy:
        proxies.append(Proxy(("127.0.0.1", port), redis=redis))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


def test_killed_while_all_fall_due(site: Site) -> None:
    first = site.expiry("first")
    schedule(site, 3.0, over=1.0)
    first.kill()
    eventually(lambda: past_the_last(site), what="all due, nobody up")
    assert site.waiting() == MANY
    assert not site.runs()
    site.expiry("second")
    once_each(site.drain(MANY), range(MANY))


def test_two_workers_one_message_each(site: Site) -> None:
    site.expiry("one", ready=False)
    site.expiry("two", ready=False).wait_ready()
    schedule(site, 1.0, over=2.0)
    once_each(site.drain(MANY), range(MANY))


def test_one_of_two_is_killed_in_the_middle(site: Site) -> None:
    """What the dead one had claimed runs after its lease: late, at least once, and nothing else is harmed."""
    one = site.expiry("one", ready=False, expiry_lease=5)
    site.expiry("two", ready=False, expiry_lease=5).wait_ready()
    one.wait_ready()
    schedule(site, 1.0, over=2.0)
    eventually(lambda: len(site.runs()) > MANY // 4, what="a part of them ran")
    one.kill()
    runs = site.drain(MANY)
    assert {run["label"] for run in runs} == set(range(MANY))
    # Only what was being published at the kill may repeat, under the same task id.
    assert len({run["request"]["id"] for run in runs}) == MANY
    assert len(runs) - MANY <= 50


def test_notifications_turned_off_under_a_running_worker(site: Site) -> None:
    worker = site.expiry()
    schedule(site, 2.0, over=2.0)
    site.redis.config_set("notify-keyspace-events", "")
    once_each(site.drain(MANY), range(MANY))
    assert worker.process.running


def test_stopped_notifications_are_mended(site: Site) -> None:
    """The worker notices by what did not come, and puts the flags back."""
    site.expiry()
    site.redis.config_set("notify-keyspace-events", "")

    def fires_and_mended() -> str:
        schedule_on_expiry(site.record("probe"), seconds=0.1).get(timeout=20)
        return str(site.redis.config_get("notify-keyspace-events")["notify-keyspace-events"])

    eventually(fires_and_mended, timeout=60, every=0.3, what="the flags are back")


def test_the_subscription_is_cut_again_and_again(site: Site) -> None:
    """What expires while nobody listens has no event; the index has it."""
    worker = site.expiry(expiry_redis_url=site.server.url(), expiry_redis_options={"client_name": "expiry"})
    schedule(site, 0.5, count=200, over=2.0)

    def subscriptions() -> list[str]:
        """Those of the expiry worker; an ordinary worker has some too."""
        clients = site.redis.client_list(_type="pubsub")
        return [client["id"] for client in clients if client["name"] == "expiry" and client["psub"] != "0"]

    cuts = 0
    while site.waiting() and not past_the_last(site):
        for client in eventually(subscriptions, what="it listens again"):
            cuts += site.redis.client_kill_filter(_id=client)
    assert cuts > 1
    once_each(site.drain(200), range(200))
    assert worker.process.running


def test_broker_down_then_back(site: Site, broker_proxy: Callable[..., Proxy], make_site: Any) -> None:
    """The store is there, the broker is not: timers wait, and fire when it is back."""
    proxy = broker_proxy(site.server.port)
    behind = make_site(broker=site.server.url(port=proxy.port))
    worker = behind.expiry()
    schedule(behind, 1.0, count=50, over=1.0)
    proxy.refuse()
    last = behind.now() + 2.5
    eventually(lambda: behind.now() > last, what="all due, the broker away")
    assert worker.process.running, worker.process.tail()
    assert not site.runs()
    assert behind.dead() == 0
    proxy.accept_again()
    once_each(behind.drain(50, timeout=60), range(50))


def test_store_cut_off_then_back(site: Site, broker_proxy: Callable[..., Proxy], make_site: Any) -> None:
    """A half of the timers falls due while the worker can't reach the store."""
    proxy = broker_proxy(site.server.port)
    worker = site.expiry(expiry_redis_url=site.server.url(port=proxy.port))
    schedule(site, 1.0, count=50, over=2.0)
    proxy.refuse()
    eventually(lambda: past_the_last(site), what="all due, the store out of reach")
    proxy.accept_again()
    once_each(site.drain(50, timeout=60), range(50))
    assert worker.process.running


def test_redis_restarts_while_timers_wait(start_redis: Callable[..., RedisServer], make_site: Any) -> None:
    """Store and broker go down together and come back from their AOF, without our notification flags."""
    server = start_redis(None, appendonly="yes", appendfsync="always")
    site = make_site(server)
    worker = site.expiry()
    site.ordinary()
    schedule(site, 1.0, count=50, over=1.0)
    schedule_on_expiry(site.record("after"), seconds=6)
    due = time.time() + 2.2
    server.kill()
    eventually(lambda: time.time() > due, what="the timers' time")
    server.start()
    assert site.redis.config_get("notify-keyspace-events")["notify-keyspace-events"] == ""
    once_each(site.drain(51, timeout=60), [*range(50), "after"])
    assert worker.process.running


def test_without_the_right_to_configure(site: Site, make_site: Any) -> None:
    """As on managed Redis: CONFIG is refused. The worker warns, tells the remedy, and is on time."""
    site.redis.acl_setuser(
        "app",
        enabled=True,
        passwords=["+verysecret"],
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-config"],
    )
    url = site.server.url(user="app", password="verysecret")
    mine = make_site(broker=url, expiry_redis_url=url)
    worker = mine.expiry()
    worker.wait_for(r"WARNING.*notify-keyspace-events")
    assert "verysecret" not in worker.log
    results = [schedule_on_expiry(mine.record(number), seconds=1 + number / 10) for number in range(10)]
    dues = [result.due for result in results]
    once_each(mine.drain(10), range(10))
    for number, due in enumerate(dues):
        assert due is not None
        assert due.timestamp() - 0.001 <= site.wait_run(number)["at"] <= due.timestamp() + 5


def test_a_timer_that_cannot_be_published_harms_nobody(site: Site) -> None:
    """A stored message that nobody can read goes to the dead letters, with its reason, and the rest fires."""
    worker = site.expiry()
    bad = schedule_on_expiry(site.record("bad"), seconds=1, key="bad")
    member = site.redis.hget(site.key("names"), "bad")
    assert member
    site.redis.hset(site.key("timers"), member, "\x01no message at all")
    results = [schedule_on_expiry(site.record(number), seconds=1) for number in range(20)]
    for result in results:
        result.get(timeout=20)
    eventually(lambda: site.dead() == 1, what=lambda: f"one dead letter\n{worker.process.tail()}")
    assert site.redis.hget(site.key("reasons"), member)
    assert not site.runs("bad")
    assert bad.cancel() in (True, False)  # a dead letter is no error for who asks
    assert worker.process.running


def test_a_full_redis_still_fires(
    start_redis: Callable[..., RedisServer], make_site: Any, site: Site
) -> None:
    """At maxmemory without eviction: firing frees memory, so neither it nor a worker's start may need any."""
    server = start_redis(None, maxmemory_policy="noeviction")
    full = make_site(server, broker=site.server.url(3))
    queue = site.server.client(3)
    first = full.expiry("first")
    schedule(full, 2.0, count=50)
    schedule(full, 5.0, count=50)
    server.client().config_set("maxmemory", "100kb")
    try:
        eventually(lambda: queue.llen("celery") >= 50, what=lambda: f"the first 50 fired; {full.stored()}")
        first.stop()
        full.expiry("second")
        eventually(lambda: queue.llen("celery") >= 100, what=lambda: f"all fired; {full.stored()}")
        full.wait_forgotten()
        assert queue.llen("celery") == 100
    finally:
        queue.flushdb()
        server.remove()


def test_a_result_backend_that_is_away_holds_no_plain_timer_up(
    start_redis: Callable[..., RedisServer], make_site: Any, site: Site
) -> None:
    """Celery waits many seconds for it with each chord; what needs no backend doesn't wait with them."""
    backend = start_redis()
    apart = make_site(result_backend=backend.url())
    apart.expiry()
    backend.kill()
    add, total = apart.task("add"), apart.task("total")
    for _ in range(5):
        schedule_on_expiry(chord([add.s(1, 1), add.s(2, 2)], total.s()).set(ignore_result=True), seconds=0.2)
    for number in range(10):
        schedule_on_expiry(apart.record(number).set(ignore_result=True), seconds=1)
    for number in range(10):
        site.wait_run(number)
    assert apart.redis.hlen(apart.key("timers")) == 5, "the chords are still waited for"
    backend.remove()

"""`schedule_on_expiry(…, watch="cart:42")`: a timer that waits for a user's own key, and not for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from celery_redis_expiry import (
    InvalidTimer,
    StoreUnavailable,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_on_expiry,
)
from celery_redis_expiry.worker.watching import key_watcher, ledger
from celery_redis_expiry.worker.watching.key_watcher import KeyTimers
from celery_redis_expiry.worker.watching.source import Source
from celery_redis_expiry.worker.watching.stream import Stream
from celery_redis_expiry.worker.watching.watcher import PATIENCE
from tests.own_keys import Watchers
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

KEY = "cart:42"
SOON = 150


@pytest.fixture
def watchers(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Watchers]]:
    made: list[Watchers] = []

    def make(**conf: Any) -> Watchers:
        made.append(Watchers(make_site(**conf), caplog))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def due(site: Site) -> list[str]:
    """The names of the timers that are due."""
    members = site.redis.zrangebyscore(site.key("due"), 0, site.now() * 1000)
    return sorted(member.partition(":")[2] for member in members)


def watch(site: Site, name: str = "timer", key: str = KEY, **options: Any) -> Any:
    return schedule_on_expiry(site.record(name), watch=key, key=name, app=site.app, **options)


def listening(watchers: Watchers) -> Site:
    """Somebody watches already: the first timer is what makes a worker begin."""
    watch(watchers.site, "first", "never")
    watchers.caught_up()
    return watchers.site


def expire(site: Site, key: str = KEY) -> None:
    """Let a key expire soon.

    Before Redis 7.2, PEXPIRE reads the clock twice. A key whose time is over by then is deleted at once, and
    has not expired.
    """
    site.redis.pexpire(key, 50)


def known(site: Site, key: str = KEY) -> None:
    """Wait until somebody listens to a key."""
    channel = f"__keyspace@0__:{key}"
    eventually(lambda: site.redis.pubsub_numsub(channel)[0][1])


@pytest.mark.usefixtures("face")
def test_it_falls_due_when_the_key_expires(watchers: Callable[..., Watchers]) -> None:
    """However often the key is extended; a key that is there again at once changes nothing."""
    site = listening(watchers())
    # long enough for a busy machine: a pause between two extensions must not let it expire
    site.redis.set(KEY, "x", px=1500)
    watch(site)
    watch(site, "another")
    watch(site, "of another key", "cart:43")
    for _ in range(4):
        time.sleep(0.1)
        site.redis.pexpire(KEY, 1500)
    assert due(site) == []
    eventually(lambda: due(site) == ["another", "timer"])
    site.redis.set(KEY, "again", px=100_000)
    watch(site, "later")
    time.sleep(0.1)
    assert due(site) == ["another", "timer"]


def test_it_is_a_timer_like_others(watchers: Callable[..., Watchers]) -> None:
    site = watchers().site
    result = watch(site)
    timer = get_timer("timer", app=site.app)
    assert timer is not None
    assert (timer.state, timer.due, timer.remaining, timer.watch) == ("waiting", None, None, KEY)
    assert [each.name for each in iter_timers(app=site.app)] == ["timer"]
    assert reschedule("timer", 600, app=site.app)
    moved = get_timer("timer", app=site.app)
    assert moved is not None
    assert moved.due is not None, "it waits for a time now"
    assert moved.watch is None
    assert result.cancel()
    assert not cancel("timer", app=site.app)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"watch": ""}, "name of a key"),
        ({"watch": 42}, "name of a key"),
        ({"watch": KEY, "seconds": 1}, "leave out seconds"),
        ({"watch": KEY, "if_exists": "extend"}, "replace"),
        ({"watch": "{expiry.ledger.0}:due"}, "itself"),
    ],
)
def test_refused(site: Site, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTimer, match=message):
        schedule_on_expiry(site.record("x"), app=site.app, **options)
    assert site.waiting() == 0


def test_cancelled_replaced_and_moved(watchers: Callable[..., Watchers]) -> None:
    site = listening(watchers())
    site.redis.set(KEY, "x", px=500)
    for name in ("cancelled", "replaced", "moved"):
        watch(site, name)
    known(site)
    assert cancel("cancelled", app=site.app)
    watch(site, "replaced", "cart:43")
    assert reschedule("moved", 600, app=site.app)
    watch(site, "sentinel")
    eventually(lambda: due(site) == ["sentinel"])


def test_a_key_that_is_not_there_yet(watchers: Callable[..., Watchers]) -> None:
    """Or has no TTL, or is deleted: it is waited for until it expires."""
    site = listening(watchers())
    site.redis.set("cart:43", "x")
    site.redis.set("cart:44", "x", px=60_000)
    for name, key in (("absent", KEY), ("without TTL", "cart:43"), ("deleted", "cart:44")):
        watch(site, name, key)
        known(site, key)
    site.redis.delete("cart:44")
    time.sleep(0.1)
    assert due(site) == []
    site.redis.set(KEY, "x", px=SOON)
    site.redis.pexpire("cart:43", SOON)
    site.redis.set("cart:44", "x", px=SOON)
    eventually(lambda: due(site) == ["absent", "deleted", "without TTL"])


def test_a_key_that_expires_at_once(watchers: Callable[..., Watchers]) -> None:
    """Perhaps before anybody listens to it: that it was there is known from the call."""
    site = listening(watchers())
    for number in range(20):
        site.redis.set(f"cart:{number}", "x", px=1 + number % 5)
        watch(site, str(number), f"cart:{number}")
    expired = {str(number) for number in range(20) if _was_there(site, number)}
    eventually(lambda: set(due(site)) == expired, what=lambda: f"{expired} and not {due(site)}")


def test_a_key_that_expires_on_a_long_way(
    watchers: Callable[..., Watchers], make_site: Callable[..., Site], proxy: Proxy
) -> None:
    """Whoever schedules is far from Redis: its TTL is old when it hears of it, and the key may be gone."""
    site = listening(watchers())
    far = make_site(expiry_redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    watch(far, "connects")
    proxy.delay_back = 0.05
    for number in range(12):
        site.redis.set(f"cart:{number}", "x", px=50 + 20 * number)
        watch(far, str(number), f"cart:{number}")
    expired = {str(number) for number in range(12) if _was_there(site, number)}
    assert len(expired) > 6
    eventually(lambda: set(due(site)) == expired, what=lambda: f"{expired} and not {due(site)}")


def test_more_timers_than_are_read_within_a_lease(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who begins to lead reads of all of them, and goes on leading meanwhile."""
    monkeypatch.setattr(ledger, "LEASE", 0.3)
    monkeypatch.setattr(ledger, "RENEW", 0.1)
    monkeypatch.setattr(key_watcher, "PAGE", 5)
    add = KeyTimers.add

    def slowly(timers: KeyTimers, shard: int, members: Sequence[str]) -> Any:
        time.sleep(0.01 * len(members))
        return add(timers, shard, members)

    monkeypatch.setattr(KeyTimers, "add", slowly)
    gap = watchers()
    for number in range(50):
        gap.site.redis.set(f"cart:{number}", "x", px=60_000)
        watch(gap.site, str(number), f"cart:{number}")
    gap.start()
    eventually(lambda: len(gap.ledger()) == 50)
    expire(gap.site, "cart:7")
    eventually(lambda: due(gap.site) == ["7"])


def test_a_subscription_is_closed_whatever_fails(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt to begin makes one: what fails after that must not leave them behind."""
    failures = []

    def refuse(source: Source, keys: Sequence[bytes]) -> Any:
        failures.append(keys)
        raise StoreUnavailable("refused")

    monkeypatch.setattr(Source, "ttls", refuse)
    gap = watchers()
    watch(gap.site)
    gap.start()
    eventually(lambda: len(failures) >= 4)

    def readers() -> int:
        return sum(thread.name == "expiry-watch-reader" for thread in threading.enumerate())

    eventually(lambda: readers() <= 1, what=readers)


def _was_there(site: Site, number: int) -> bool:
    from celery_redis_expiry.timer import Stored

    member = site.redis.hget(site.key("names"), str(number))
    record = site.server.raw_client().hget(site.key("timers"), member)
    return Stored.decode(record).content["watch"]["due"] is not None


def test_an_expiry_that_is_older_than_the_timer(watchers: Callable[..., Watchers]) -> None:
    """The cart expired, was filled again, and the timer is of the new one."""
    site = listening(watchers())
    for number in range(10):
        key = f"filled again:{number}"  # to which no test before has listened
        site.redis.set(key, "x", px=60_000)
        watch(site, f"old {number}", key)
        known(site, key)
        expire(site, key)
        eventually(lambda key=key: site.redis.set(key, "again", px=60_000, nx=True), every=0)
        watch(site, f"new {number}", key)
    eventually(lambda: len(due(site)) >= 10)
    time.sleep(0.1)
    assert due(site) == [f"old {number}" for number in range(10)]


def test_an_expiry_right_after_the_subscription(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the key is there again before anybody has looked: nobody else waited for it."""
    site = listening(watchers())
    site.redis.set(KEY, "x", px=60_000)
    marking = Stream.mark

    def mark(stream: Stream) -> str:
        if site.redis.pubsub_numsub(f"__keyspace@0__:{KEY}")[0][1] and not site.redis.exists("done"):
            site.redis.set("done", "")
            expire(site)
            eventually(lambda: site.redis.set(KEY, "again", px=60_000, nx=True), every=0)
        return marking(stream)

    monkeypatch.setattr(Stream, "mark", mark)
    watch(site, "timer")
    eventually(lambda: due(site) == ["timer"])


def test_an_expiry_that_is_heard_after_a_newer_timer(
    watchers: Callable[..., Watchers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event lies in the stream still when the timer is told of, which comes by another way."""
    held = threading.Event()
    following = Stream._next

    def hold(stream: Stream, timeout: float) -> list[Any]:
        if not held.is_set():
            return following(stream, timeout)
        time.sleep(0.02)
        return []

    monkeypatch.setattr(Stream, "_next", hold)
    site = listening(watchers())
    site.redis.set(KEY, "x", px=60_000)
    watch(site, "old")
    known(site)
    held.set()
    time.sleep(PATIENCE + 0.1)  # who was waiting already takes what comes
    expire(site)
    eventually(lambda: site.redis.set(KEY, "again", px=60_000, nx=True), every=0)
    watch(site, "new")
    time.sleep(0.3)
    held.clear()
    eventually(lambda: due(site) == ["old"])
    time.sleep(0.2)
    assert due(site) == ["old"]


def test_after_a_gap(watchers: Callable[..., Watchers]) -> None:
    """What expired while nobody listened; what was deleted before its time, extended, or scheduled then."""
    gap = watchers()
    site = listening(gap)
    for name in ("expired", "deleted", "extended"):
        site.redis.set(name, "x", px=60_000 if name == "deleted" else 400)
        watch(site, name, name)
        known(site, name)
    eventually(lambda: len(gap.ledger()) == 3)
    gap.stop()
    site.redis.delete("deleted")
    site.redis.pexpire("extended", 60_000)
    site.redis.set("in the gap", "x", px=SOON)
    watch(site, "in the gap", "in the gap")
    time.sleep(0.6)
    gap.caught_up()
    eventually(lambda: due(site) == ["expired", "in the gap"])
    known(site, "deleted")
    site.redis.set("deleted", "x", px=SOON)
    eventually(lambda: due(site) == ["deleted", "expired", "in the gap"])


@pytest.mark.usefixtures("face")
def test_keys_elsewhere(watchers: Callable[..., Watchers], shared_redis: Callable[..., RedisServer]) -> None:
    other = shared_redis(use="beside").client(3)
    site = listening(watchers(expiry_watch_url=shared_redis(use="beside").url(3)))
    other.set(KEY, "x", px=SOON)
    site.redis.set(KEY, "x", px=60_000)
    watch(site)
    eventually(lambda: due(site) == ["timer"])

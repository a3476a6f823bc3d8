"""The public calls against real Redis servers: what they answer, and what they leave there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import chord, signature

from celery_redis_expiry import (
    ExpiryError,
    InvalidTimer,
    NamespaceTaken,
    StoreUnavailable,
    TimerExists,
    cancel,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer
from tests.site import Site

pytestmark = pytest.mark.usefixtures("face")


def test_key_index_and_message(site: Site) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600, key="referral:42")
    timer = get_timer("referral:42", app=site.app)
    assert timer is not None
    assert result.due is not None
    assert (timer.id, timer.name, timer.task) == (result.id, "referral:42", "ledger.record")
    assert (timer.state, timer.due) == ("waiting", result.due)
    assert "referral:42" in timer.trigger_key
    due_ms = round(result.due.timestamp() * 1000)
    pttl = int(site.redis.pttl(timer.trigger_key))
    assert abs(site.now() * 1000 + pttl - due_ms) < 100  # two calls apart on one clock
    assert site.redis.get(timer.trigger_key) == "0"
    [(member, score)] = site.redis.zrange(site.key("due"), 0, -1, withscores=True)
    assert score == due_ms
    assert timer.trigger_key.endswith(str(member))
    assert site.redis.hlen(site.key("timers")) == 1


@pytest.mark.parametrize("named", [True, False])
def test_cancel_leaves_nothing(site: Site, named: bool) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600, key="name" if named else None)
    assert result.cancel() is True
    assert site.stored() == {}
    assert result.cancel() is False
    assert result.due is None
    assert result.remaining is None
    assert get_timer(result, app=site.app) is None


def test_every_target_means_the_same_timer(site: Site) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600, key="name")
    found = [get_timer(target, app=site.app) for target in ("name", result.id, result)]
    assert {timer.trigger_key for timer in found if timer} == {found[0].trigger_key if found[0] else ""}
    assert reschedule("name", 500, app=site.app) is True
    assert reschedule(result.id, seconds=400, app=site.app) is True
    assert reschedule(result, at=datetime.now(timezone.utc) + timedelta(hours=1), app=site.app) is True
    assert site.waiting() == 1
    assert result.remaining is not None
    assert 3590 < result.remaining <= 3600
    assert cancel(result.id, app=site.app) is True
    assert reschedule("name", 500, app=site.app) is False


def test_replacing_forgets_the_old_one(site: Site) -> None:
    first = schedule_on_expiry(site.record(1), seconds=600, key="name")
    second = schedule_on_expiry(site.record(2), seconds=700, key="name")
    assert first.id != second.id
    assert first.due is None
    assert second.due is not None
    assert first.cancel() is False  # it is no longer the timer of that name
    assert site.stored() == {"due": 1, "timers": 1, "names": 1, "ids": 1, "trigger": 1}


def test_keep_and_extend(site: Site) -> None:
    first = schedule_on_expiry(site.record(1), seconds=600, key="name")
    due = first.due
    kept = schedule_on_expiry(site.record(2), seconds=700, key="name", if_exists="keep")
    assert (kept.id, kept.due) == (first.id, due)
    extended = schedule_on_expiry(site.record(3), seconds=700, key="name", if_exists="extend")
    assert extended.id == first.id
    assert extended.remaining is not None
    assert extended.remaining > 650
    with pytest.raises(TimerExists):
        schedule_on_expiry(site.record(4), seconds=800, key="name", if_exists="raise")
    assert site.stored() == {"due": 1, "timers": 1, "names": 1, "ids": 1, "trigger": 1}


def test_many_in_constant_memory_of_calls(site: Site) -> None:
    """A million rows would be one call: it takes an iterator, and bad rows harm no good ones."""

    def rows() -> Any:
        for number in range(2500):
            if number % 500 == 7:
                yield site.record(number), float("nan")
            elif number % 2:
                yield site.record(number), 600
            else:
                yield {"signature": site.record(number), "seconds": 600, "key": f"row:{number}"}
        yield "no item at all"
        yield site.record(0), 600, "a name"

    results: list[Any] = []
    summary = schedule_many_on_expiry(rows(), on_result=lambda _, result: results.append(result))
    assert summary.scheduled == len(results) == 2495
    assert [bad.position for bad in summary.errors] == [7, 507, 1007, 1507, 2007, 2500, 2501]
    assert str(summary.errors[-1].error).endswith("not 3 values")
    assert all(isinstance(each.error, ExpiryError) for each in summary.errors)
    assert site.waiting() == 2495


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "negative": ("seconds", {"seconds": -1}),
    "nan": ("seconds", {"seconds": float("nan")}),
    "infinite": ("seconds", {"seconds": float("inf")}),
    "bool": ("seconds", {"seconds": True}),
    "string": ("seconds", {"seconds": "60"}),
    "too long": ("seconds", {"seconds": 1e30}),
    "negative timedelta": ("seconds", {"seconds": timedelta(seconds=-1)}),
    "neither": ("seconds", {}),
    "both": ("seconds", {"seconds": 1, "at": datetime.now(timezone.utc)}),
    "at a number": ("at", {"at": 1.5}),
    "empty key": ("key", {"seconds": 1, "key": ""}),
    "long key": ("key", {"seconds": 1, "key": "x" * 100_000}),
    "control characters": ("key", {"seconds": 1, "key": "a\nb"}),
    "key is no string": ("key", {"seconds": 1, "key": 42}),
    "if_exists": ("if_exists", {"seconds": 1, "key": "a", "if_exists": "overwrite"}),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_arguments_store_nothing(site: Site, bad: str) -> None:
    named, arguments = BAD[bad]
    with pytest.raises(InvalidTimer, match=named):
        schedule_on_expiry(site.record(1), **arguments)
    assert site.stored() == {}


@pytest.mark.parametrize("value", [None, "ledger.record", 42, print])
def test_no_signature(site: Site, value: Any) -> None:
    with pytest.raises(InvalidTimer, match="signature"):
        schedule_on_expiry(value, seconds=1, app=site.app)
    assert site.stored() == {}


def test_arguments_that_do_not_serialize(site: Site) -> None:
    with pytest.raises(InvalidTimer, match=r"(serializ|argument)"):
        schedule_on_expiry(site.record(object()), seconds=1)
    assert site.stored() == {}


def test_a_signature_by_name(site: Site, current: None) -> None:
    """It has no app of its own: the current one is meant."""
    result = schedule_on_expiry(signature("ledger.record", args=("x",)), seconds=600, key="by name")
    canvas = schedule_on_expiry(
        chord([signature("ledger.record", args=("x",))], signature("ledger.total")), 600
    )
    for each in (result, canvas):
        assert each.remaining is not None
        assert each.cancel() is True
    assert cancel("by name") is False
    assert site.stored() == {}


ODD: dict[str, dict[str, Any]] = {
    "serializer": {"serializer": "nope"},
    "compression": {"compression": "nope"},
    "expires text": {"expires": "tomorrow"},
    "expires negative": {"expires": -1},
    "surrogate id": {"task_id": "\ud800"},
    "eta": {"eta": datetime.now(timezone.utc)},
    "countdown": {"countdown": 5},
    "object in headers": {"headers": {"x": object()}},
}


def test_odd_signatures_harm_no_others(site: Site) -> None:
    """Celery finds fault with them in ways of its own; to us each is a bad item, and an error of our tree."""
    odd = [site.record("odd").set(**options) for options in ODD.values()]
    odd.append(site.task("add").s())  # misses its arguments
    odd.append(site.task("fail").s("odd").set(link=object()))
    for bad in odd:
        with pytest.raises(ExpiryError):
            schedule_on_expiry(bad, seconds=600)
    assert site.stored() == {}
    items = [(item, 600) for number, bad in enumerate(odd) for item in (site.record(number), bad)]
    summary = schedule_many_on_expiry(items)
    assert summary.scheduled == len(odd) == site.waiting()
    assert [each.position for each in summary.errors] == list(range(1, 2 * len(odd), 2))
    assert all(isinstance(each.error, ExpiryError) for each in summary.errors)


def test_many_in_a_foreign_namespace(site: Site) -> None:
    """Nothing of it can be stored, and that is no bad item but an error."""
    site.redis.hset(site.key("namespace"), mapping={"format": 1, "app": "theirs", "broker": "b"})
    for count in (1, 120):
        with pytest.raises(NamespaceTaken, match="expiry_namespace"):
            schedule_many_on_expiry((site.record(number), 600) for number in range(count))
    assert site.waiting() == 0


def test_unreachable(make_site: Callable[..., Site]) -> None:
    nowhere = make_site(expiry_redis_url=f"redis://127.0.0.1:{free_port()}/0")
    for call in (
        lambda: schedule_on_expiry(nowhere.record(1), seconds=1),
        lambda: cancel("name", app=nowhere.app),
        lambda: reschedule("name", seconds=1, app=nowhere.app),
        lambda: get_timer("name", app=nowhere.app),
    ):
        with pytest.raises(StoreUnavailable, match=r"(?i)redis"):
            call()


def test_read_only(site: Site, redis_server: RedisServer) -> None:
    site.redis.replicaof("127.0.0.1", str(free_port()))
    try:
        with pytest.raises(StoreUnavailable, match=r"(?i)read.?only"):
            schedule_on_expiry(site.record(1), seconds=1)
    finally:
        site.redis.replicaof("no", "one")
    assert site.stored() == {}


def test_full(site: Site) -> None:
    schedule_on_expiry(site.record(1), seconds=600, key="there")
    before = site.stored()
    site.redis.config_set("maxmemory", "100kb")
    try:
        with pytest.raises(StoreUnavailable, match=r"(?i)memory"):
            schedule_on_expiry(site.record(2), seconds=600)
        assert cancel("there", app=site.app) is True  # what frees memory is not refused
    finally:
        site.redis.config_set("maxmemory", "0")
    assert before["due"] == 1
    assert site.stored() == {}


def test_a_prefix_stands_before_every_key(make_site: Callable[..., Site]) -> None:
    site = make_site(broker_transport_options={"global_keyprefix": "shop:"})
    schedule_on_expiry(site.record(1), seconds=600, key="name")
    keys = list(site.redis.scan_iter())
    assert keys
    assert all(str(key).startswith("shop:{expiry.ledger.0}:") for key in keys)


def test_by_a_unix_socket(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = start_redis(None, unixsocket=str(socket))
    for url in (f"unix://{socket}?db=2", f"redis+socket://{socket}?virtual_host=2"):
        site = Site(server, tmp_path, expiry_redis_url=url)
        assert schedule_on_expiry(site.record(1), seconds=600, key=url.partition(":")[0]).remaining
        site.close()
    assert server.client(2).zcard("{expiry.ledger.0}:due") == 2
    server.remove()

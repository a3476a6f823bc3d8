"""Fields of hashes that expire: Redis 7.4 and later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_redis_expiry.worker.watching.field_watcher import _FieldSource
from tests.own_keys import Watchers
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

KEY = "cart:1"
SOON = 150
HANDLER = {"pattern": "cart:*", "field": "item:*"}


@pytest.fixture
def listening(
    make_site: Callable[..., Site], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> Iterator[Watchers]:
    watchers = Watchers(make_site(handlers=[HANDLER]), caplog)
    yield watchers
    watchers.stop()


def can(server: RedisServer) -> bool:
    return tuple(map(int, server.version.split("."))) >= (7, 4)


@pytest.fixture
def redis(listening: Watchers, redis_server: RedisServer) -> Any:
    if not can(redis_server):
        pytest.skip("HEXPIRE came with Redis 7.4")
    listening.caught_up()
    return redis_server.client()


def put(redis: Any, *fields: str, px: int = SOON, key: str = KEY) -> None:
    """Fields with a TTL, beside one that has none."""
    redis.hset(key, mapping={"name": "Ann", **dict.fromkeys(fields, "x")})
    for field in fields:
        redis.execute_command("HPEXPIRE", key, px, "FIELDS", 1, field)


def told(listening: Watchers) -> list[str]:
    return sorted(each["field"] for each in listening.told())


def settled(listening: Watchers, redis: Any) -> list[str]:
    """What was told once everything that happened until now was acted upon."""
    sentinel = f"item:last {redis.incr('sentinels')}"
    put(redis, sentinel, px=60, key="cart:sentinel")
    eventually(lambda: sentinel in told(listening))
    return [field for field in told(listening) if "last" not in field]


def test_a_field_expires(listening: Watchers, redis: Any) -> None:
    put(redis, "item:1", "item:2", "other:3")
    redis.execute_command("HPEXPIRE", KEY, 100_000, "FIELDS", 1, "item:2")
    [event] = eventually(listening.told)
    due = event.pop("due")
    assert due is not None
    assert event == {
        "key": KEY,
        "pattern": "cart:*",
        "channel": f"__keyspace@0__:{KEY}",
        "event": "expired",
        "missed": False,
        "certain": True,
        "value": None,
        "value_at": None,
        "field": "item:1",
        "field_pattern": "item:*",
    }
    assert settled(listening, redis) == ["item:1"]


def test_many_at_once_and_the_last_of_a_key(listening: Watchers, redis: Any) -> None:
    """One event tells of several; with the last of them the key is gone."""
    fields = [f"item:{number}" for number in range(50)]
    # no event tells which fields expired: the ledger must know them all by then, however busy the machine is
    put(redis, *fields, px=3000)
    redis.hdel(KEY, "name")
    eventually(lambda: len(listening.ledger()) == len(fields), timeout=2.5, what="a ledger of all the fields")
    eventually(lambda: told(listening) == sorted(fields), what=lambda: f"all of {told(listening)}")
    assert settled(listening, redis) == sorted(fields)


def test_answers_that_take_their_time_lose_nothing(
    listening: Watchers, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TTL counts from when it was asked for, not from when its answer was read."""
    ttls = _FieldSource.ttls

    def slow(source: _FieldSource, keys: Any) -> Any:
        answer = ttls(source, keys)
        time.sleep(0.4)
        return answer

    monkeypatch.setattr(_FieldSource, "ttls", slow)
    put(redis, "item:1", px=1500)
    eventually(lambda: told(listening) == ["item:1"])


def test_one_that_is_thought_to_be_due_already_is_told_of_once(
    listening: Watchers, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of slow answers it takes the earliest time that they may mean; another's event may come after that."""
    ttls = _FieldSource.ttls

    def slow(source: _FieldSource, keys: Any) -> Any:
        answer = ttls(source, keys)
        source.asked -= 0.3
        return answer

    monkeypatch.setattr(_FieldSource, "ttls", slow)
    put(redis, "item:1", px=600)
    put(redis, "item:2", px=800)
    eventually(lambda: len(listening.ledger()) == 2, timeout=0.5)
    eventually(lambda: not redis.hexists(KEY, "item:2"))
    assert settled(listening, redis) == ["item:1", "item:2"]


def test_what_is_no_expiry(listening: Watchers, redis: Any) -> None:
    put(redis, "item:deleted", "item:kept", "item:set", px=400)
    put(redis, "item:gone with its key", px=400, key="cart:2")
    redis.hdel(KEY, "item:deleted")
    redis.execute_command("HPERSIST", KEY, "FIELDS", 1, "item:kept")
    redis.hset(KEY, "item:set", "y")
    redis.delete("cart:2")
    time.sleep(0.5)
    assert settled(listening, redis) == []


def test_after_a_gap(listening: Watchers, redis: Any) -> None:
    put(redis, "item:expired", px=400)
    put(redis, "item:extended", px=400)
    put(redis, "item:deleted", px=60_000)
    eventually(lambda: len(listening.ledger()) == 3)
    listening.stop()
    redis.hdel(KEY, "item:deleted")
    redis.execute_command("HPEXPIRE", KEY, 60_000, "FIELDS", 1, "item:extended")
    put(redis, "item:new", px=1200)
    time.sleep(0.6)
    listening.caught_up()
    eventually(lambda: told(listening) == ["item:expired"])
    eventually(lambda: told(listening) == ["item:expired", "item:new"])
    assert [each["missed"] for each in listening.told()] == [True, False]
    assert settled(listening, redis) == ["item:expired", "item:new"]


def test_a_server_that_cannot(
    listening: Watchers, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    if can(redis_server):
        pytest.skip("this one can")
    listening.start()
    eventually(lambda: "HEXPIRE needs Redis 7.4" in caplog.text)

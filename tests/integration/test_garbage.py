"""Garbage in what is stored: every call answers or raises an ExpiryError, on every Redis version."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery import Celery

from celery_redis_expiry import (
    ExpiryError,
    NamespaceTaken,
    cancel,
    get_timer,
    reschedule,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Shard, store_of
from celery_redis_expiry.timer import LATEST, Claimed, as_datetime
from tests.servers.redis import RedisServer


@pytest.fixture
def app(redis_server: RedisServer) -> Celery:
    return Celery("store", broker=redis_server.url(), set_as_current=False)


@pytest.fixture
def store(app: Celery) -> Shard:
    return store_of(app).shards[0]


@pytest.fixture
def raw(redis_server: RedisServer) -> redis.Redis:
    return redis_server.raw_client()


def schedule(app: Celery, key: str, seconds: float = 60, **more: Any) -> Any:
    return schedule_on_expiry(app.signature("store.task"), seconds, key=key, app=app, **more)


def claim(store: Shard) -> list[Claimed]:
    # what is due at this very millisecond isn't yet
    time.sleep(0.002)
    due = [(member, False) for member, _ in store.look("test", limit=100, parked=0).due]
    return store.claim(due, token=new_token(), lease=60)


@pytest.mark.parametrize("member", [b"", b"no colon", b":", b"\xff\xfe", b"a:\xff", b"a:\x1b[2J"])
def test_a_member_that_no_scheduling_made(store: Shard, raw: redis.Redis, member: bytes) -> None:
    """It goes to the dead letters, and can be listed, retried and discarded."""
    raw.zadd(store.keys.due, {member: 1})
    for _ in range(2):
        [claimed] = claim(store)
        claimed.id = claimed.label
        assert store.bury(claimed, "why", "test")
        assert raw.zrange(store.keys.dead, 0, -1) == [member]
        [letter] = store.dead_letters()
        assert letter.label.isprintable()
        assert store.retry(letter)
    [claimed] = claim(store)
    assert store.bury(claimed, "why", "test")
    [letter] = store.dead_letters()
    assert store.discard(letter)
    assert raw.zcard(store.keys.dead) == 0


@pytest.mark.parametrize("score", ["-inf", "-1e300", "-1", "0.5"])
def test_a_due_time_that_is_none(app: Celery, store: Shard, raw: redis.Redis, score: str) -> None:
    schedule(app, "odd")
    member = raw.hget(store.keys.names, "odd")
    assert member
    raw.zadd(store.keys.due, {member: score})
    raw.delete(store.keys.trigger(member.decode()))
    timer = get_timer("odd", app=app)
    assert timer is not None
    assert timer.due == as_datetime(0)
    [claimed] = claim(store)
    assert claimed.due == 0
    assert store.release(claimed.token, [claimed]) == 1
    [again] = claim(store)
    assert store.ack(again.token, [again]) == 1


@pytest.mark.parametrize("score", ["inf", "1e300", "1e17"])
def test_a_due_time_that_never_comes(app: Celery, store: Shard, raw: redis.Redis, score: str) -> None:
    schedule(app, "odd")
    member = raw.hget(store.keys.names, "odd")
    assert member
    raw.zadd(store.keys.due, {member: score})
    raw.delete(store.keys.trigger(member.decode()))
    timer = get_timer("odd", app=app)
    assert timer is not None
    assert timer.due == as_datetime(LATEST)
    assert claim(store) == []
    with pytest.raises(ExpiryError):
        schedule(app, "odd", if_exists="raise")
    assert reschedule("odd", 5, app=app)
    assert cancel("odd", app=app)


@pytest.mark.parametrize("lease", ["-inf", "inf", "-1e300", "1e300"])
def test_a_lease_that_ends_at_no_time(app: Celery, store: Shard, raw: redis.Redis, lease: str) -> None:
    schedule(app, "odd", 0)
    [claimed] = claim(store)
    raw.zadd(store.keys.claimed, {claimed.member: lease})
    look = store.look("test", limit=10, parked=0)
    assert look.wake > look.now - 1
    assert store.recover(10) == (1 if lease.startswith("-") else 0)


CLAIMS = [
    "", ":::", "-:5:-1", "-:x:0", "-:1e9:0", "-:" + "9" * 17 + ":0", "-:" + "9" * 400 + ":0",
    "-:5:" + "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", CLAIMS)
def test_a_damaged_claim_puts_nothing_off(app: Celery, store: Shard, raw: redis.Redis, value: str) -> None:
    schedule(app, "odd", 0)
    [stale] = claim(store)
    raw.hset(store.keys.claims, stale.member, value)
    raw.zadd(store.keys.claimed, {stale.member: 1})
    assert store.recover(10) == 1
    raw.hset(store.keys.claims, stale.member, value)
    [claimed] = claim(store)
    assert claimed.due <= store.look("test", limit=1, parked=0).now
    assert store.release(claimed.token, [claimed]) == 1
    assert len(claim(store)) == 1


@pytest.mark.parametrize(
    "reason", [b"", b"\xff", b"null", b"[]", b"{}", b'{"reason": 5}', b'{"reason": "\x1b[2J"}']
)
@pytest.mark.parametrize("score", ["inf", "-inf", "-1", "1e300"])
def test_a_damaged_dead_letter(store: Shard, raw: redis.Redis, reason: bytes, score: str) -> None:
    raw.zadd(store.keys.dead, {b"a:b": score})
    raw.hset(store.keys.reasons, "a:b", reason)
    [letter] = store.dead_letters()
    assert letter.reason.isprintable()
    assert store.discard(letter)


@pytest.mark.parametrize("record", [None, b"", b"x", b"1:" + b"9" * 30 + b":x", b"1:0:{}"])
@pytest.mark.parametrize("how", ["replace", "keep", "extend", "raise", "move", "cancel"])
def test_another_call_for_a_timer_whose_message_is_damaged(
    app: Celery, store: Shard, raw: redis.Redis, record: bytes | None, how: str
) -> None:
    """Each does its work, whole: one timer or none is there in the end."""
    schedule(app, "odd")
    member = raw.hget(store.keys.names, "odd")
    assert member
    if record is None:
        raw.hdel(store.keys.timers, member)
    else:
        raw.hset(store.keys.timers, member, record)
    if how == "raise":
        with pytest.raises(ExpiryError):
            schedule(app, "odd", if_exists=how)
    elif how == "move":
        assert reschedule("odd", 600, app=app) is False, "there is nothing to fire later"
    elif how == "cancel":
        assert cancel("odd", app=app) is True
    else:
        assert schedule(app, "odd", if_exists=how)
    there = 0 if how == "cancel" else 1
    assert raw.zcard(store.keys.due) == raw.hlen(store.keys.names) == there
    assert raw.hlen(store.keys.timers) == (
        0 if record is None and how in ("keep", "raise", "move") else there
    )
    assert len(raw.keys("*trigger:*")) == there
    if how == "replace":
        timer = get_timer("odd", app=app)
        assert timer is not None
        assert timer.task == "store.task"


@pytest.mark.parametrize("version", ["", "x", "-1", "1.5", b"\xff", "٣"])
def test_a_format_that_none_is(store: Shard, raw: redis.Redis, version: Any) -> None:
    store.enter("redis://here")
    raw.hset(store.keys.namespace, "format", version)
    with pytest.raises(NamespaceTaken, match="adopt"):
        store.enter("redis://here")
    store.enter("redis://here", adopt=True)
    store.enter("redis://here")


@pytest.mark.parametrize("hash", ["names", "ids"])
@pytest.mark.parametrize("value", [b"", b"\xff", b"nowhere", b"a:b", b"x" * 10_000])
def test_pointers_to_nowhere(app: Celery, store: Shard, raw: redis.Redis, hash: str, value: bytes) -> None:
    result = schedule(app, "odd")
    raw.hset(getattr(store.keys, hash), "odd" if hash == "names" else result.id, value)
    for target in ("odd", result):
        assert get_timer(target, app=app) is None or hash == "names" or target == "odd"
        assert reschedule(target, 700, app=app) in (True, False)
        assert cancel(target, app=app) in (True, False)
    assert schedule(app, "odd").cancel() is True


HASHES = ("timers", "names", "ids", "claims", "reasons", "namespace")
SORTED_SETS = ("due", "parked", "claimed", "dead", "pacers")


class Lives:
    """A timer in every state, and every script that changes one."""

    def __init__(self, app: Celery, store: Shard, raw: redis.Redis) -> None:
        self.store, self.raw, self.app = store, raw, app
        for name in ("due", "parked", "claimed", "stale", "dead"):
            schedule(app, name, 60 if name in ("due", "parked") else 0)
        members = {name.decode(): member.decode() for name, member in raw.hgetall(store.keys.names).items()}
        self.due, self.parked = members["due"], members["parked"]
        raw.persist(store.keys.trigger(self.parked))
        store.touch([self.parked])
        raw.persist(store.keys.trigger(self.due))
        [self.claimed] = store.claim([(members["claimed"], True)], token="mine", lease=60)
        [buried] = store.claim([(members["dead"], True)], token="other", lease=60)
        buried.id = "x"
        store.bury(buried, "why", "test")
        store.claim([(members["stale"], True)], token="stale", lease=0)
        [self.letter] = store.dead_letters()
        [self.lain] = store.read("due", [self.due])

    def calls(self) -> dict[str, Any]:
        store = self.store
        raw_due = self.due
        return {
            "schedule": lambda: schedule(self.app, "new"),
            "replace": lambda: schedule(self.app, "due"),
            "extend": lambda: schedule(self.app, "parked", if_exists="extend"),
            "cancel": lambda: store.cancel([raw_due], "u"),
            "trim": lambda: store.trim(0, 60),
            "put": lambda: store.put([self.lain], moving=True),
            "put anew": lambda: store.put([replace(self.lain, member="g:new")]),
            "drop": lambda: store.drop(raw_due, "x"),
            "touch": lambda: store.touch([raw_due, self.parked]),
            "claim": lambda: (
                self.raw.delete(store.keys.trigger(raw_due))
                and store.claim([(raw_due, True)], token="t", lease=60)
            ),
            "ack": lambda: store.ack("mine", [self.claimed]),
            "release": lambda: store.release("mine", [self.claimed]),
            "prolong": lambda: store.prolong("mine", [self.claimed], 60),
            "recover": lambda: store.recover(10),
            "bury": lambda: store.bury(self.claimed, "why", "test"),
            "retry": lambda: store.retry(self.letter),
            "discard": lambda: store.discard(self.letter),
        }


@pytest.mark.parametrize("broken", [*HASHES, *SORTED_SETS])
def test_a_key_of_another_type_leaves_nothing_half_done(
    app: Celery, store: Shard, raw: redis.Redis, broken: str
) -> None:
    """All of a script or nothing: what it had taken out of one set would be nowhere."""
    for name in Lives(app, store, raw).calls():
        raw.flushdb()
        call = Lives(app, store, raw).calls()[name]
        store.enter("redis://here")
        key = getattr(store.keys, broken)
        raw.delete(key)
        raw.set(key, "garbage")
        before = contents(raw)
        try:
            call()
        except ExpiryError:
            assert contents(raw) == before, f"{name} failed in the middle"


def contents(raw: redis.Redis) -> dict[bytes, Any]:
    reads = {
        b"zset": lambda key: raw.zrange(key, 0, -1, withscores=True),
        b"hash": raw.hgetall,
        b"string": raw.get,
    }
    return {key: reads[raw.type(key)](key) for key in raw.scan_iter() if b":trigger:" not in key}

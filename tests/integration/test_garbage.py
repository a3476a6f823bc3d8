"""Garbage in what is stored: every call answers or raises an ExpiryError, on every Redis version."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis
from celery import Celery

from celery_redis_expiry import (
    ExpiryError,
    cancel,
    get_timer,
    reschedule,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Store, store_of
from celery_redis_expiry.timer import Claimed
from tests.servers.redis import RedisServer


@pytest.fixture
def app(redis_server: RedisServer) -> Celery:
    return Celery("store", broker=redis_server.url(), set_as_current=False)


@pytest.fixture
def store(app: Celery) -> Store:
    return store_of(app)


@pytest.fixture
def raw(redis_server: RedisServer) -> redis.Redis:
    return redis_server.raw_client()


def schedule(app: Celery, key: str, seconds: float = 60, **more: Any) -> Any:
    return schedule_on_expiry(app.signature("store.task"), seconds, key=key, app=app, **more)


def claim(store: Store) -> list[Claimed]:
    # what is due at this very millisecond isn't yet
    time.sleep(0.002)
    due = [(member, False) for member, _ in store.look("test", limit=100, parked=0).due]
    return store.claim(due, token=new_token(), lease=60)


CLAIMS = [
    "", ":::", "-:5:-1", "-:x:0", "-:1e9:0", "-:" + "9" * 17 + ":0", "-:" + "9" * 400 + ":0",
    "-:5:" + "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", CLAIMS)
def test_a_damaged_claim_puts_nothing_off(app: Celery, store: Store, raw: redis.Redis, value: str) -> None:
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


@pytest.mark.parametrize("record", [None, b"", b"x", b"1:" + b"9" * 30 + b":x", b"1:0:{}"])
@pytest.mark.parametrize("how", ["replace", "keep", "extend", "raise", "move", "cancel"])
def test_another_call_for_a_timer_whose_message_is_damaged(
    app: Celery, store: Store, raw: redis.Redis, record: bytes | None, how: str
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

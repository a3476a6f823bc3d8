"""The bounds of the dead letters: how many, how old; what is dropped is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from celery_redis_expiry.store import Shard, store_of
from celery_redis_expiry.worker.bounds import Bounds
from tests.site import Site

DAY = 86_400.0


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def bury(site: Site, label: str, age: float = 0) -> None:
    """A dead letter that was buried `age` seconds ago."""
    member = f"g:{label}"
    site.redis.zadd(site.key("dead"), {member: (site.now() - age) * 1000})
    site.redis.hset(site.key("timers"), member, "1:1:xrecord")
    site.redis.hset(site.key("reasons"), member, '{"reason": "why ' + label + '", "origin": "w"}')


def dropped(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.args[0] for record in caplog.records if record.args]  # type: ignore[index]


def test_the_oldest_go_when_there_are_too_many(
    site: Site, shard: Shard, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(250):
        bury(site, str(number), age=1000 - number)
    caplog.set_level(logging.WARNING)
    Bounds(10, DAY).enforce(shard)
    kept = [letter.label for letter in shard.dead_letters(1000)]
    assert kept == [str(number) for number in range(249, 239, -1)]
    assert dropped(caplog) == [str(number) for number in range(240)]
    assert "why 0" in caplog.text
    assert site.redis.hlen(site.key("timers")) == site.redis.hlen(site.key("reasons")) == 10


def test_the_old_go(site: Site, shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    for label, age in (("old", DAY + 60), ("young", DAY - 60)):
        bury(site, label, age)
    caplog.set_level(logging.WARNING)
    Bounds(10, DAY).enforce(shard)
    assert [letter.label for letter in shard.dead_letters()] == ["young"]
    assert dropped(caplog) == ["old"]


def test_they_are_looked_at_now_and_then_without_a_new_one(site: Site, shard: Shard) -> None:
    bounds = Bounds(10, DAY)
    bounds.sweep(shard)
    bury(site, "old", DAY + 60)
    bounds.sweep(shard)
    assert shard.dead_letters(), "not at each sweep"
    Bounds(10, DAY).sweep(shard)
    assert not shard.dead_letters()

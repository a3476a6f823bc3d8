"""Whatever is stored of one timer may be garbage: the others fire, once each, and it ends with its reason."""

from __future__ import annotations

import itertools

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

from celery_redis_expiry import schedule_many_on_expiry
from celery_redis_expiry.store import store_of
from tests.fuzz.garbage import Damage, Part, Record, Victim, damages
from tests.fuzz.profiles import LIMIT, effort
from tests.fuzz.rounds import fired, forget, schedule_sane, settled
from tests.servers.workers import Worker
from tests.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT)

rounds = itertools.count()


def victims(site: Site, raw: redis.Redis, number: int, count: int) -> list[Victim]:
    """Timers that are far from due."""
    ids: dict[int, str] = {}
    items = [
        {"signature": site.record(f"victim {number}.{i}"), "seconds": 3600, "key": f"victim {number}.{i}"}
        for i in range(count)
    ]
    summary = schedule_many_on_expiry(
        items, on_result=lambda position, result: ids.__setitem__(position, result.id), app=site.app
    )
    assert summary.scheduled == count, summary.errors
    base = site.key("")
    found = raw.hmget(base + "names", [str(item["key"]) for item in items])
    return [
        Victim(raw, base, member, str(item["key"]), ids[i])
        for i, (item, member) in enumerate(zip(items, found, strict=True))
        if member is not None
    ]


POISON: list[Damage] = [
    Record(b'1:1:x{"kind": "canvas"}'),
    Record(b"5:1:x"),
    Record(b'5:1:x[1, null, "", 0, 0, 0]\n{"every": {"schedule": {"type": "tide"}, "bound": null}}'),
    Record(
        b'5:1:x[1, null, "", 0, 0, 0]\n{"every": {"schedule": {"type": "interval", "ms": 60000}, "bound": 1}}'
    ),
    Part("declare", [{"exchange": {"name": "odd", "type": "nosuch"}}]),
    Part("kind", "nosuch"),
    Part("routing_key", ["celery"]),
    Part("routing_key", "\ud800"),
    Part("exchange", "\ud800"),
    Part("correlation_id", ["x"]),
    *(Part(name, "nosuch") for name in ("compression", "serializer", "content_encoding", "priority")),
]


@example(chosen=POISON)
@given(chosen=st.lists(damages, min_size=30, max_size=40))
@effort(examples=8, long=300)
def test_no_other_timer_is_harmed(
    troubled_site: Site, troubled_worker: Worker, raw: redis.Redis, chosen: list[Damage]
) -> None:
    site, number = troubled_site, next(rounds)
    forget(site, raw)
    said = len(troubled_worker.log)
    harmed = victims(site, raw, number, len(chosen))
    for damage, victim in zip(chosen, harmed, strict=True):
        damage.apply(victim)
    due = round(site.now() * 1000) + 300
    for damage, victim in zip(chosen, harmed, strict=True):
        damage.fall_due(victim, due)
    sane = schedule_sane(site)
    eventually(
        lambda: set(fired(site)) >= sane,
        timeout=15,
        what=lambda: f"the sane ones fired\n{troubled_worker.process.tail()}",
    )
    settled(site, troubled_worker)
    assert sorted(fired(site)) == sorted(sane)
    assert troubled_worker.process.running
    text = troubled_worker.log[said:]
    assert "Traceback" not in text, text
    assert len(text.splitlines()) < 10 + 4 * len(chosen), text

    dead = dict.fromkeys(raw.zrange(site.key("dead"), 0, -1))
    for damage, victim in zip(chosen, harmed, strict=True):
        if damage.dead:
            member = damage.harmed(victim)
            assert member in dead, f"{damage}\n{text}"
            reason = raw.hget(site.key("reasons"), member)
            assert reason, damage
            assert b"expiry@test" in reason, damage
    handle(site, troubled_worker, raw)


def handle(site: Site, worker: Worker, raw: redis.Redis) -> None:
    """Every dead letter can be listed, retried and discarded."""
    store = store_of(site.app)
    letters = store.dead_letters(1000)
    assert len(letters) == raw.zcard(site.key("dead"))
    for letter in letters[::3]:
        assert store.retry(letter)
    settled(site, worker)
    for letter in store.dead_letters(1000):
        assert store.discard(letter)
    assert raw.zcard(site.key("dead")) == 0

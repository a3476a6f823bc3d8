"""Timers without a name stand in Redis by the first bytes of their ids: what that must not change."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from celery_redis_expiry import (
    TimerExists,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token, place_of
from celery_redis_expiry.store import Claims, Shard, new_store, store_of
from celery_redis_expiry.timer import Undecodable
from celery_redis_expiry.worker.pruner import Pruner
from tests.site import Site

ONE = {"due": 1, "timers": 1, "trigger": 1}


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def claim(shard: Shard, lease: float = 60) -> Claims:
    time.sleep(0.003)  # a key lives until now > due
    due = [(member, False) for member, _ in shard.look("test", limit=100, parked=0).due]
    return shard.claim(due, token=new_token(), lease=lease)


def member(shard: Shard, id: str) -> str:
    found = shard.find(id)
    assert found is not None
    return found


def test_what_lies_in_redis(site: Site, shard: Shard) -> None:
    result = schedule_on_expiry(site.record(42, "friend-7"), seconds=600)
    assert site.stored() == ONE
    with site.server.raw_client() as raw:
        assert raw.zrange(shard.keys.due, 0, -1) == raw.hkeys(shard.keys.timers) == [place_of(result.id)]
        [record] = raw.hvals(shard.keys.timers)
        assert len(record) == 33
    timer = get_timer(result)
    assert timer is not None
    assert timer.trigger_key.endswith(f":{result.id}")
    assert (timer.id, timer.name, timer.task) == (result.id, None, "ledger.record")
    assert timer.args == "(42, 'friend-7')"
    assert [each.trigger_key for each in iter_timers(app=site.app)] == [timer.trigger_key]


def test_a_reschedule_is_another_generation_at_the_same_place(site: Site, shard: Shard) -> None:
    result = schedule_on_expiry(site.record(1), seconds=0.001)
    older = member(shard, result.id)
    assert reschedule(result, seconds=600)
    newer = member(shard, result.id)
    assert newer != older
    assert site.stored() == ONE
    # what is known of the older one touches nothing newer: not even where its trigger key is gone
    site.redis.delete(shard.keys.trigger(newer))
    assert shard.claim([(older, True)], token="late", lease=60) == []
    assert shard.cancel([older], "late") == [("gone", result.id)]
    shard.touch([older])
    assert shard.inspect(older) is None
    [claimed] = shard.claim([(newer, True)], token="new", lease=60)
    assert claimed.id == result.id


def test_an_older_event_does_not_unpark_the_newer(site: Site, shard: Shard) -> None:
    result = schedule_on_expiry(site.record(1), seconds=600)
    older = member(shard, result.id)
    reschedule(result, seconds=700)
    newer = member(shard, result.id)
    site.redis.persist(shard.keys.trigger(newer))
    shard.touch([newer])
    assert site.redis.zcard(site.key("parked")) == 1
    shard.touch([older])
    assert site.redis.zcard(site.key("parked")) == 1


@pytest.mark.parametrize("key", [None, "name"])
def test_a_task_id_comes_back_while_it_is_being_published(site: Site, shard: Shard, key: str | None) -> None:
    """As with `retry`: the older one finishes, the newer fires by itself."""
    signature = site.record(1).set(task_id=str(uuid.uuid4()))
    schedule_on_expiry(signature, seconds=0)
    [first] = claim(shard)
    again = schedule_on_expiry(signature, seconds=600, key=key)
    assert again.id == first.id
    with pytest.raises(TimerExists):
        schedule_on_expiry(signature, seconds=600)
    timer = get_timer(again)
    assert timer is not None
    assert (timer.state, timer.name) == ("waiting", key)
    assert shard.ack(first.token, [first]) == 1
    assert shard.ack(first.token, [first]) == 0
    same = get_timer(again)
    assert same is not None
    assert (same.trigger_key, same.due) == (timer.trigger_key, timer.due)
    assert reschedule(again, seconds=0)
    [second] = claim(shard)
    assert second.id == first.id
    assert shard.ack(second.token, [second]) == 1
    assert site.stored() == {}
    # and when nothing is left of it, it is compact again
    schedule_on_expiry(signature, seconds=600)
    assert site.stored() == ONE


def test_a_task_id_comes_back_beside_its_dead_letter(site: Site, shard: Shard) -> None:
    signature = site.record("again").set(task_id=str(uuid.uuid4()))
    schedule_on_expiry(signature, seconds=0)
    [claimed] = claim(shard)
    assert shard.bury(claimed, "why", "test")
    assert get_timer(claimed.id, app=site.app) is None
    assert not cancel(claimed.id, app=site.app)
    newer = schedule_on_expiry(signature, seconds=600)
    [letter] = shard.dead_letters()
    assert (letter.id, letter.task, letter.reason) == (claimed.id, "ledger.record", "why")
    assert shard.retry(letter)
    [retried] = claim(shard)
    assert retried.member == letter.member
    assert shard.ack(retried.token, [retried]) == 1
    assert newer.cancel()
    assert site.stored() == {}


def test_two_ids_that_begin_alike(site: Site, shard: Shard) -> None:
    alike = [f"7e3f0a52-1111-4111-8111-111111{n:06x}" for n in range(3)]
    for id in alike:
        schedule_on_expiry(site.record(id).set(task_id=id), seconds=600)
    assert site.stored() == {"due": 3, "timers": 3, "ids": 2, "trigger": 3}
    assert {timer.id for timer in iter_timers(app=site.app)} == set(alike)
    assert store_of(site.app).waiting_of([*alike, "7e3f0a52-1111-4111-8111-111111ffffff"]) == alike
    for id in reversed(alike):
        assert reschedule(id, seconds=500, app=site.app)
        assert cancel(id, app=site.app)
        assert get_timer(id, app=site.app) is None
    assert site.stored() == {}


@pytest.mark.parametrize(
    "id", ["my own", "7E3F0A52-1111-4111-8111-111111111111", "7e3f0a5211114111811111111111aaaa"]
)
def test_other_ids_stand_as_they_are(site: Site, id: str) -> None:
    schedule_on_expiry(site.record(1).set(task_id=id), seconds=600)
    assert site.stored() == {**ONE, "ids": 1}
    assert reschedule(id, seconds=500, app=site.app)
    assert cancel(id, app=site.app)
    assert site.stored() == {}


def test_templates_that_went_are_brought_again(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), seconds=600)
    assert site.redis.delete(shard.keys.templates, shard.keys.used) == 2
    schedule_many_on_expiry((site.record(n), 0) for n in range(3))
    assert sorted(each.stored.content["body"][2] for each in claim(shard)) == ["0", "1", "2"]  # type: ignore[union-attr]
    assert site.redis.hlen(shard.keys.templates) == 1


def test_without_its_template_a_timer_is_a_dead_letter(site: Site, shard: Shard) -> None:
    result = schedule_on_expiry(site.record(1), seconds=0)
    site.redis.delete(shard.keys.templates)
    [claimed] = claim(new_store(site.app).shards[0])
    assert isinstance(claimed.stored, Undecodable)
    assert claimed.id == result.id


def test_another_template_of_the_same_name(site: Site, shard: Shard) -> None:
    """As unlikely as it is: what can't be told apart by its name is stored whole."""
    schedule_on_expiry(site.record(1), seconds=600)
    [ref] = shard.link.client.hkeys(shard.keys.templates)
    shard.link.client.hset(shard.keys.templates, ref, b"another")
    shard.templates.refused("lacking", ref)
    result = schedule_on_expiry(site.record(2), seconds=600)
    assert shard.link.client.hget(shard.keys.templates, ref) == b"another"
    timer = get_timer(result)
    assert timer is not None
    assert timer.args == "(2,)"
    assert site.stored() == {"due": 2, "timers": 2, "trigger": 2, "ids": 1}


# -- pruning


def kinds(site: Site, number: int) -> list[Any]:
    """As many kinds of messages."""
    return [site.record(n).set(shadow=f"kind {n}") for n in range(number)]


def step_until_done(pruner: Pruner, shard: Shard) -> None:
    pruner.step(shard)
    while pruner._searches:
        pruner.step(shard)


def test_templates_that_no_timer_has_are_pruned(
    site: Site, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_redis_expiry.store.pruning.PAGE", 10)
    results = [schedule_on_expiry(each, seconds=600) for each in kinds(site, 40)]
    schedule_on_expiry(site.record("dead").set(shadow="buried"), seconds=0)
    [claimed] = claim(shard)
    shard.bury(claimed, "why", "test")
    for result in results[:30]:
        assert result.cancel()
    step_until_done(Pruner(), shard)
    step_until_done(Pruner(age=-1, least=50), shard)
    assert site.redis.hlen(shard.keys.templates) == 41
    time.sleep(0.003)
    step_until_done(Pruner(age=0, least=10), shard)
    assert site.redis.hlen(shard.keys.templates) == site.redis.zcard(shard.keys.used) == 11
    assert all(timer.task == "ledger.record" for timer in iter_timers(app=site.app))
    # those that went are brought again
    for each in kinds(site, 40)[:30]:
        schedule_on_expiry(each, seconds=600)
    assert site.redis.hlen(shard.keys.templates) == 41


def test_what_is_used_meanwhile_is_left(site: Site, shard: Shard) -> None:
    first, second = kinds(site, 2)
    gone = schedule_on_expiry(first, seconds=600)
    moved = schedule_on_expiry(second, seconds=600)
    time.sleep(0.003)
    refs, began = shard.unused(0, 10), shard.now()
    assert len(refs) == 2
    assert gone.cancel()
    assert moved.reschedule(seconds=500)
    assert shard.prune(refs, began) == 1
    timer = get_timer(moved)
    assert timer is not None
    assert timer.task == "ledger.record"

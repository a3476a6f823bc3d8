"""Claim, lease, ack, release, recover: who owns a timer, on every Redis version."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import NamespaceTaken, StoreFull, cancel, get_timer, reschedule, schedule_on_expiry
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Shard, store_of
from celery_redis_expiry.timer import Claimed
from tests.servers.redis import RedisServer


@pytest.fixture
def app(redis_server: RedisServer) -> Celery:
    app = Celery("store", broker=redis_server.url(), set_as_current=False)

    @app.task(shared=False, name="store.task")
    def task(*args: Any) -> None: ...

    return app


@pytest.fixture
def store(app: Celery) -> Shard:
    return store_of(app).shards[0]


def due_now(app: Celery, **arguments: Any) -> Any:
    return schedule_on_expiry(app.tasks["store.task"].s(1), 0, app=app, **arguments)


def wait_until(moment: datetime) -> None:
    """Until a moment on the clock of Redis, which is this machine's, has passed."""
    time.sleep(max(0.0, moment.timestamp() - time.time()) + 0.005)


def members(store: Shard) -> list[str]:
    # seconds=0 is due at this very millisecond; a key lives until now > due
    time.sleep(0.002)
    return [member for member, _ in store.look("test", limit=100, parked=0).due]


def claim(store: Shard, *, token: str | None = None, lease: float = 60) -> list[Claimed]:
    claims = store.claim(
        [(member, False) for member in members(store)], token=token or new_token(), lease=lease
    )
    return claims


def test_one_of_two_workers_gets_it(app: Celery, store: Shard) -> None:
    due_now(app)
    names = [(member, True) for member in members(store)]
    assert len(store.claim(names, token="one", lease=60)) == 1
    assert store.claim(names, token="two", lease=60) == []


def test_a_repeated_claim_gets_the_first_answer(app: Celery, store: Shard) -> None:
    due_now(app)
    names = [(member, True) for member in members(store)]
    first = store.claim(names, token="one", lease=60)
    assert store.claim(names, token="one", lease=60) == first


def test_lateness_counts_on_the_clock_of_redis(app: Celery, store: Shard) -> None:
    """Also after a first attempt that failed; and a claim knows how it was told of."""
    due = due_now(app).due.timestamp()
    before = time.time()  # this machine's clock, which is Redis's
    released = claim(store)
    store.release(released[0].token, released)
    wait_until(datetime.fromtimestamp(due + 0.05))
    [claimed] = store.claim([(released[0].member, True)], token="event", lease=60)
    late, after = time.monotonic() - claimed.due_local, time.time()
    assert 0.05 <= late <= after - due + 0.002
    assert before - due < late
    assert (released[0].by_event, claimed.by_event) == (False, True)


def test_what_is_not_due_is_not_claimed(app: Celery, store: Shard) -> None:
    schedule_on_expiry(app.tasks["store.task"].s(), 60, key="later", app=app)
    member = store._client.hget(store.keys.names, "later").decode()
    for expired in (False, True):
        assert store.claim([(member, expired)], token="one", lease=60) == []
    assert get_timer("later", app=app).state == "waiting"


def test_after_the_ack_nothing_is_left(app: Celery, store: Shard, redis_server: RedisServer) -> None:
    due_now(app, key="a")
    claims = claim(store)
    assert store.ack(claims[0].token, claims) == 1
    assert store.ack(claims[0].token, claims) == 0
    assert get_timer("a", app=app) is None
    with redis_server.client() as client:
        left = {key.partition("}:")[2].partition(":")[0] for key in client.scan_iter()}
    assert left <= {"namespace", "pacers", "answer", "templates", "used"}


def test_an_ended_lease_is_recovered_and_its_owner_has_no_say(app: Celery, store: Shard) -> None:
    due_now(app, key="a")
    stale = claim(store, lease=0.001)
    time.sleep(0.01)
    assert store.recover(100) == 1
    fresh = claim(store)
    assert len(fresh) == 1
    assert fresh[0].due == stale[0].due
    assert store.ack(stale[0].token, stale) == 0
    assert store.release(stale[0].token, stale) == 0
    assert not store.bury(stale[0], "no", "test")
    assert store.ack(fresh[0].token, fresh) == 1


def test_released_with_a_delay(app: Celery, store: Shard) -> None:
    due_now(app, key="a")
    claims = claim(store)
    store.release(claims[0].token, claims, delay=60, tried=True)
    assert members(store) == []
    assert get_timer("a", app=app).state == "waiting"
    assert cancel("a", app=app), "what waits for its next attempt can be cancelled"


def test_attempts_are_counted_and_the_due_time_stays(app: Celery, store: Shard) -> None:
    due_now(app)
    first = claim(store)
    store.release(first[0].token, first, delay=0, tried=True)
    second = claim(store)
    assert (second[0].attempts, second[0].due) == (1, first[0].due)


@pytest.mark.parametrize("how", ["replace", "reschedule"])
def test_changed_during_a_claim(app: Celery, store: Shard, how: str) -> None:
    first = due_now(app, key="a")
    claims = claim(store)
    assert not cancel("a", app=app), "it is being published"
    if how == "replace":
        second = schedule_on_expiry(app.tasks["store.task"].s(2), 60, key="a", app=app)
        assert second.id != first.id
    else:
        assert reschedule("a", seconds=60, app=app)
    assert get_timer("a", app=app).remaining > 50
    assert store.ack(claims[0].token, claims) == 1
    assert get_timer("a", app=app).remaining > 50, "the ack of the older generation touches nothing newer"
    assert cancel("a", app=app)


def test_a_release_after_a_replace_keeps_both(app: Celery, store: Shard) -> None:
    first = due_now(app, key="a")
    claims = claim(store)
    second = schedule_on_expiry(app.tasks["store.task"].s(2), 60, key="a", app=app)
    store.release(claims[0].token, claims)
    assert get_timer("a", app=app).id == second.id
    assert [each.id for each in claim(store)] == [first.id]


def test_a_repeated_task_id_never_replaces_another_timer(app: Celery) -> None:
    from celery_redis_expiry import TimerExists

    signature = app.tasks["store.task"].s(1).set(task_id="same")
    schedule_on_expiry(signature, 60, app=app)
    with pytest.raises(TimerExists):
        schedule_on_expiry(signature, 30, app=app)
    with pytest.raises(TimerExists):
        schedule_on_expiry(signature, 30, key="named", app=app)
    assert get_timer("same", app=app).remaining > 50


def test_parked_at_the_head_of_the_index(app: Celery, store: Shard, redis_server: RedisServer) -> None:
    schedule_on_expiry(app.tasks["store.task"].s(), 1, key="parked", app=app)
    timer = get_timer("parked", app=app)
    with redis_server.client() as client:
        assert client.persist(timer.trigger_key)
        wait_until(timer.due)
        assert claim(store) == []
        assert members(store) == [], "it left the head"
        timer = get_timer("parked", app=app)
        assert (timer.state, timer.due, timer.remaining) == ("parked", None, None)
        client.pexpire(timer.trigger_key, 60_000)
        store.touch([store._client.hget(store.keys.names, "parked").decode()])
    assert get_timer("parked", app=app).remaining > 50
    assert cancel("parked", app=app)


def test_moved_later_by_another_client(app: Celery, store: Shard, redis_server: RedisServer) -> None:
    result = schedule_on_expiry(app.tasks["store.task"].s(), 1, key="a", app=app)
    indexed = result.due
    with redis_server.client() as client:
        assert client.pexpire(result.timer.trigger_key, 60_000)
    wait_until(indexed)
    assert claim(store) == []
    assert members(store) == []
    assert 50 < get_timer("a", app=app).remaining <= 60


def test_a_full_redis_refuses_whole_and_gives_back(
    app: Celery, store: Shard, redis_server: RedisServer
) -> None:
    due_now(app, key="due")
    with redis_server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreFull):
            schedule_on_expiry(app.tasks["store.task"].s(), 60, key="more", app=app)
        assert get_timer("more", app=app) is None
        claims = claim(store)
        assert store.release(claims[0].token, claims) == 1
        claims = claim(store, lease=0.001)
        time.sleep(0.01)
        assert store.recover(100) == 1
        claims = claim(store)
        assert store.ack(claims[0].token, claims) == 1


def test_dead_letters(app: Celery, store: Shard) -> None:
    due_now(app, key="a")
    claims = claim(store)
    assert store.bury(claims[0], "no route", "test")
    assert get_timer("a", app=app) is None
    [letter] = store.dead_letters()
    assert (letter.label, letter.reason) == ("a", "no route")
    assert store.retry(letter)
    assert store.dead_letters() == []
    assert get_timer("a", app=app).state == "waiting"
    claims = claim(store)
    store.bury(claims[0], "no route", "test")
    [letter] = store.dead_letters()
    assert store.discard(letter)
    assert not store.discard(letter)
    assert not store.retry(letter)


def test_an_earlier_timer_is_announced_and_a_later_one_is_not(
    app: Celery, store: Shard, redis_server: RedisServer
) -> None:
    with redis_server.client() as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(store.keys.wake)
        pubsub.get_message(timeout=5)
        look = store.look("pacer", limit=10, parked=0)
        schedule_on_expiry(app.tasks["store.task"].s(), 3600, app=app)
        result = schedule_on_expiry(app.tasks["store.task"].s(), 30, app=app)
        message = pubsub.get_message(timeout=5)
    assert int(message["data"]) == round(result.due.timestamp() * 1000) < look.wake


def test_a_namespace_is_one_apps(app: Celery, store: Shard, redis_server: RedisServer) -> None:
    store.enter("redis://here")
    store.enter("redis://here")
    with pytest.raises(NamespaceTaken, match="adopt"):
        store.enter("redis://elsewhere")
    other = Celery("other", broker=redis_server.url(), set_as_current=False)
    other.conf.expiry_namespace = "store"
    with pytest.raises(NamespaceTaken, match="'store'"):
        schedule_on_expiry(other.signature("x"), 60, app=other)
    store.enter("redis://elsewhere", adopt=True)
    store.enter("redis://elsewhere")


def test_a_damaged_record_harms_nobody(app: Celery, store: Shard, redis_server: RedisServer) -> None:
    due_now(app, key="bad")
    due_now(app, key="good")
    with redis_server.client() as client:
        for member in client.hkeys(store.keys.timers):
            if member.endswith(":bad"):
                client.hset(store.keys.timers, member, "\x00garbage")
    claims = store.claim([(member, False) for member in members(store)], token="t", lease=60)
    assert {each.label for each in claims} == {"bad", "good"}
    assert get_timer("bad", app=app).state == "claimed"

"""Guards: keys of the user's own that are asked in the claim, on every Redis version."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from celery_redis_expiry import (
    InvalidTimer,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import label_of, new_token
from celery_redis_expiry.store import CalledOff, Claims, Guarded, Shard, new_store, reshard, store_of
from celery_redis_expiry.timer import GUARDED, Undecodable
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site

PRESENT, ABSENT = "user:42:registered", "user:43:registered"
#: Guards, and whether they let a timer fire while `PRESENT` exists and `ABSENT` doesn't.
GUARDS: list[tuple[dict[str, Any], bool]] = [
    ({"unless_exists": ABSENT}, True),
    ({"unless_exists": PRESENT}, False),
    ({"only_if_exists": PRESENT}, True),
    ({"only_if_exists": ABSENT}, False),
    ({"unless_exists": [ABSENT, "other"]}, True),
    ({"unless_exists": [ABSENT, PRESENT]}, False),
    ({"only_if_exists": [PRESENT, ABSENT]}, False),
    ({"unless_exists": ABSENT, "only_if_exists": PRESENT}, True),
    ({"unless_exists": PRESENT, "only_if_exists": PRESENT + "!"}, False),
    ({"unless_exists": ABSENT, "only_if_exists": [PRESENT, ABSENT + "!"]}, False),
]


@pytest.fixture
def shard(site: Site) -> Shard:
    site.redis.set(PRESENT, "yes")
    return store_of(site.app).shards[0]


def guarded(shard: Shard) -> list[Guarded]:
    """What is due, and has a guard; a key lives until now > due."""
    time.sleep(0.003)
    due = [(member, False) for member, _ in shard.look("test", limit=100, parked=0).due]
    claims = shard.claim(due, token=new_token(), lease=60)
    assert not claims, "one that has a guard was taken without asking it"
    return claims.guarded


def claim(shard: Shard, token: str = "token", lease: float = 60) -> Claims:
    claims = shard.claim_guarded(guarded(shard), token=token, lease=lease)
    return claims


def labels(claims: Claims) -> list[str]:
    return [each.label for each in claims]


@pytest.mark.parametrize(("guard", "fires"), GUARDS)
def test_what_a_guard_says(site: Site, shard: Shard, guard: dict[str, Any], fires: bool) -> None:
    result = schedule_on_expiry(site.record(1), seconds=0, key="sms:42", **guard)
    claims = claim(shard)
    assert [each.label for each in claims] == (["sms:42"] if fires else [])
    assert [(each.id, each.unsure) for each in claims.called_off] == ([] if fires else [(result.id, False)])
    if fires:
        assert shard.ack("token", claims) == 1
    assert site.stored() == {}, "nothing of it is left"


def test_others_are_claimed_without_a_second_call(site: Site, shard: Shard) -> None:
    """And a guard is no matter of theirs."""
    for number in range(6):
        guard = {"unless_exists": PRESENT if number % 2 else ABSENT} if number > 2 else {}
        schedule_on_expiry(site.record(number), seconds=0, key=f"{number}", **guard)
    time.sleep(0.003)
    due = [(member, False) for member, _ in shard.look("test", limit=100, parked=0).due]
    claims = shard.claim(due, token="one", lease=60)
    assert sorted(labels(claims)) == ["0", "1", "2"]
    assert not claims.called_off
    allowed = shard.claim_guarded(claims.guarded, token="two", lease=60)
    assert labels(allowed) == ["4"]
    assert sorted(each.member.partition(":")[2] for each in allowed.called_off) == ["3", "5"]
    assert site.stored() == {"claimed": 4, "timers": 4, "names": 4, "ids": 4, "claims": 4}


def test_a_key_of_any_type(site: Site, shard: Shard) -> None:
    keys = [f"any:{kind}" for kind in ("list", "set", "hash", "zset", "stream")]
    site.redis.rpush(keys[0], 1)
    site.redis.sadd(keys[1], 1)
    site.redis.hset(keys[2], "field", 1)
    site.redis.zadd(keys[3], {"member": 1})
    site.redis.xadd(keys[4], {"field": 1})
    for key in keys:
        schedule_on_expiry(site.record(key), seconds=0, unless_exists=key)
    assert len(claim(shard).called_off) == len(keys)


def test_what_is_not_due_asks_nobody(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), seconds=600, key="later", unless_exists=PRESENT)
    member = str(shard.find("later"))
    assert shard.claim([(member, True)], token="one", lease=60).guarded == []
    stored = shard.kept(member)[0]
    assert not isinstance(stored, Undecodable)
    due = [Guarded(member, True, stored.guard)]
    claims = shard.claim_guarded(due, token="two", lease=60)
    assert (list(claims), claims.called_off) == ([], [])
    assert get_timer("later", app=site.app) is not None


def test_a_repeated_claim_gets_the_first_answer(site: Site, shard: Shard) -> None:
    """Whatever became of the keys meanwhile."""
    off = schedule_on_expiry(site.record(1), seconds=0, key="off", unless_exists=PRESENT)
    schedule_on_expiry(site.record(2), seconds=0, key="on", unless_exists=ABSENT)
    # two that are due in the same millisecond lie in the index by their generations
    due = sorted(guarded(shard), key=lambda each: label_of(each.member))
    first = shard.claim_guarded(due, token="one", lease=60)
    site.redis.delete(PRESENT)
    site.redis.set(ABSENT, "")
    for _ in range(2):
        again = shard.claim_guarded(due, token="one", lease=60)
        assert list(again) == list(first)
        assert again.called_off == first.called_off == [CalledOff(due[0].member, off.id, False)]
    other = shard.claim_guarded(due, token="two", lease=60)
    assert (list(other), other.called_off) == ([], [])


def test_the_reply_to_a_claim_is_lost(make_site: Callable[..., Site], proxy: Proxy) -> None:
    site = make_site()
    heard = make_site(expiry_redis_url=site.server.url(port=proxy.port))
    shard = store_of(heard.app).shards[0]
    site.redis.set(PRESENT, "")
    for number in range(4):
        guard = PRESENT if number % 2 else ABSENT
        schedule_on_expiry(heard.record(number), seconds=0, key=f"{number}", unless_exists=guard)
    due = guarded(shard)
    proxy.clear()
    proxy.drop_reply(lambda command: command[0].upper() == "EVALSHA")
    claims = shard.claim_guarded(due, token="token", lease=60)
    assert len(proxy.dropped) == 1
    assert sorted(labels(claims)) == ["0", "2"]
    assert sorted(each.member.partition(":")[2] for each in claims.called_off) == ["1", "3"]


def test_it_is_asked_at_every_attempt(site: Site, shard: Shard) -> None:
    """What is published was let pass in the claim that it is published under."""
    result = schedule_on_expiry(site.record(1), seconds=0, key="sms", unless_exists=ABSENT)
    first = claim(shard, "one")
    assert shard.release("one", first, tried=True) == 1
    again = claim(shard, "two", lease=0.001)
    assert again[0].attempts == 1
    time.sleep(0.005)
    assert shard.recover(10) == 1
    site.redis.set(ABSENT, "")
    last = claim(shard, "three")
    assert last.called_off == [CalledOff(first[0].member, result.id, unsure=True)]
    assert site.stored() == {}


def test_the_name_of_a_newer_generation_stays(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), seconds=0, key="sms", unless_exists=PRESENT)
    older = guarded(shard)
    schedule_on_expiry(site.record(2), seconds=600, key="other")
    member = str(shard.find("other"))
    site.redis.hset(site.key("names"), "sms", member)
    assert len(shard.claim_guarded(older, token="one", lease=60).called_off) == 1
    assert site.redis.hget(site.key("names"), "sms") == member


# -- what becomes of the guard


def guard_of(site: Site, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    timer = get_timer(name, app=site.app)
    assert timer is not None
    [listed] = iter_timers(name=name, app=site.app)
    assert (listed.unless_exists, listed.only_if_exists) == (timer.unless_exists, timer.only_if_exists)
    return timer.unless_exists, timer.only_if_exists


@pytest.mark.usefixtures("face")
def test_replace_takes_the_new_one_extend_and_reschedule_keep_the_old(site: Site) -> None:
    def schedule(**arguments: Any) -> Any:
        schedule_on_expiry(site.record(1), seconds=600, key="sms", **arguments)
        return guard_of(site, "sms")

    assert schedule() == ((), ())
    assert schedule(unless_exists="a", only_if_exists=["b", "c"]) == (("a",), ("b", "c"))
    assert reschedule("sms", seconds=700, app=site.app)
    assert guard_of(site, "sms") == (("a",), ("b", "c"))
    assert schedule(if_exists="extend", unless_exists="x") == (("a",), ("b", "c"))
    assert schedule(if_exists="keep", unless_exists="x") == (("a",), ("b", "c"))
    assert schedule(unless_exists="x") == (("x",), ())
    assert schedule() == ((), ())
    assert schedule(if_exists="extend", unless_exists="x") == ((), ())
    assert cancel("sms", app=site.app)
    assert schedule(if_exists="extend", unless_exists="x") == (("x",), ())


@pytest.mark.usefixtures("face")
def test_many_at_once(site: Site, shard: Shard) -> None:
    items: list[Any] = [
        {"signature": site.record(n), "seconds": 0, "unless_exists": PRESENT if n % 2 else ABSENT}
        for n in range(120)
    ]
    items += [(site.record(n), 0) for n in range(120, 240)]
    bad = {"signature": site.record(0), "seconds": 0, "only_if_exists": ""}
    summary = schedule_many_on_expiry([*items, bad])
    assert (summary.scheduled, [each.position for each in summary.errors]) == (240, [240])
    time.sleep(0.003)
    due = [(member, False) for member, _ in shard.look("test", limit=300, parked=0).due]
    claims = shard.claim(due, token="one", lease=60)
    assert (len(claims), len(claims.guarded)) == (120, 120)
    allowed = shard.claim_guarded(claims.guarded, token="two", lease=60)
    assert (len(allowed), len(allowed.called_off)) == (60, 60)


def test_dead_letters_and_other_shards_keep_it(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), seconds=0, key="dead", unless_exists=ABSENT)
    [taken] = claim(shard, "one")
    assert shard.bury(taken, "why", "test")
    schedule_on_expiry(site.record(1), seconds=600, key="waiting", only_if_exists="x")
    shard.withdraw("test")
    # there and back, as another process does it
    moved = reshard(new_store(site.app), 8)
    assert moved
    assert reshard(new_store(site.app), 1) == moved
    assert guard_of(site, "waiting") == ((), ("x",))
    [letter] = store_of(site.app).dead_letters()
    assert store_of(site.app).retry(letter)
    assert guard_of(site, "dead") == ((ABSENT,), ())
    site.redis.set(ABSENT, "")
    assert len(claim(shard, "two").called_off) == 1


def test_a_damaged_guard_lets_nobody_pass(site: Site, shard: Shard) -> None:
    """It is claimed, to become a dead letter."""
    schedule_on_expiry(site.record(1), seconds=0, key="sms", unless_exists=PRESENT)
    member = str(shard.find("sms"))
    with site.server.raw_client() as raw:
        record = bytes(raw.hget(site.key("timers"), member))  # type: ignore[arg-type]
    assert record.startswith(b"%d:" % GUARDED)
    damages = (b'"unless_exists"', b'"guard"'), (b'["user:42:registered"]', b"[]")
    for (part, other), number in zip((*damages, (b"{", b"[")), itertools.count()):
        damaged = record.replace(part, b'"else"' if part.startswith(b'"') else other)
        assert damaged != record
        site.redis.hset(site.key("timers"), member, damaged)
        [due] = guarded(shard)
        assert due.guard is None
        [taken] = shard.claim_guarded([due], token=f"{number}", lease=60)
        assert isinstance(taken.stored, Undecodable)
        shard.release(f"{number}", [taken])


# -- keys that this user may not read


def test_keys_that_may_not_be_read(site: Site, make_site: Callable[..., Site]) -> None:
    """Others are asked all the same; a timer whose key can't be read is taken with the problem."""
    rules = ("reset", "on", ">secret", "+@all", "&*", "~{expiry.*", "~user:*")
    site.redis.execute_command("ACL SETUSER", "few", *rules)
    few = make_site(expiry_redis_url=site.server.url(user="few", password="secret"))
    shard = store_of(few.app).shards[0]
    site.redis.set(PRESENT, "")
    for name, guard in (("on", ABSENT), ("off", PRESENT), ("unread", "secret:42")):
        schedule_on_expiry(site.record(name), seconds=0, key=name, unless_exists=guard)
    schedule_on_expiry(
        site.record(1), seconds=0, key="off anyway", unless_exists=PRESENT, only_if_exists="secret:42"
    )
    claims = claim(shard)
    problems = {each.label: each.problem for each in claims}
    assert sorted(problems) == ["on", "unread"]
    assert not problems["on"]
    assert "'secret:42'" in problems["unread"]
    assert "permissions" in problems["unread"].lower()
    assert len(claims.called_off) == 2


def test_the_right_to_read_is_enough(site: Site, make_site: Callable[..., Site]) -> None:
    """Then they are asked just before the claim: EVALSHA wants the right to write its keys."""
    if site.server.version.startswith("6"):
        pytest.skip("Redis 6.2 knows no right to read only")
    rules = ("reset", "on", ">secret", "+@all", "&*", "~{expiry.*", "%R~user:*")
    site.redis.execute_command("ACL SETUSER", "reads", *rules)
    reads = make_site(expiry_redis_url=site.server.url(user="reads", password="secret"))
    site.redis.set(PRESENT, "")
    schedule_on_expiry(site.record(1), seconds=0, key="on", unless_exists=ABSENT)
    schedule_on_expiry(site.record(1), seconds=0, key="off", unless_exists=PRESENT)
    claims = claim(store_of(reads.app).shards[0])
    assert [(each.label, each.problem) for each in claims] == [("on", "")]
    assert len(claims.called_off) == 1


# -- what is refused


@pytest.mark.parametrize(
    "guard",
    [
        {"unless_exists": ""},
        {"unless_exists": []},
        {"unless_exists": [""]},
        {"unless_exists": 42},
        {"unless_exists": b"key"},
        {"only_if_exists": ["fine", None]},
        {"only_if_exists": "x" * 257},
        {"only_if_exists": "a\nb"},
        {"only_if_exists": "\ud800"},
        {"unless_exists": {"a": 1}},
        {"unless_exists": [f"{number}" for number in range(17)]},
        {"unless_exists": "a", "only_if_exists": ["b", "a"]},
        {"unless_exists": "{expiry.ledger.0}:names"},
        {"unless_exists": "prefix:{expiry.other.app.12}:trigger:x:y"},
    ],
)
def test_refused(site: Site, guard: dict[str, Any]) -> None:
    with pytest.raises(InvalidTimer, match=r"unless_exists|only_if_exists|guard|never fire"):
        schedule_on_expiry(site.record(1), seconds=600, **guard)
    assert site.stored() == {}


def test_a_full_redis_calls_off(redis_server: RedisServer, site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), seconds=0, key="off", unless_exists=PRESENT)
    due = guarded(shard)
    client: redis.Redis = redis_server.client()
    client.config_set("maxmemory", 1)
    try:
        claims = shard.claim_guarded(due, token="one", lease=60)
    finally:
        client.config_set("maxmemory", 0)
        client.close()
    assert len(claims.called_off) == 1
    assert shard.claim_guarded(due, token="one", lease=60).called_off == claims.called_off

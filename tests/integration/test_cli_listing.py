"""`celery expiry list`, `show` and `stats`: what an operator sees."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from celery_redis_expiry import get_timer, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Shard, store_of
from tests.integration.commands import expiry, told
from tests.site import Site

pytestmark = pytest.mark.usefixtures("current")


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def park(site: Site, shard: Shard, name: str) -> None:
    member = str(shard.find(name))
    site.redis.persist(site.key(f"trigger:{member}"))
    shard.touch([member])


def claim(site: Site, shard: Shard, name: str) -> Any:
    """A timer that is due is claimed, as an expiry worker does."""
    member = str(shard.find(name))
    while not (claims := shard.claim([(member, True)], token=new_token(), lease=60)):
        pass  # due in this very millisecond
    claims[0].id = get_timer(name).id  # type: ignore[union-attr]
    return claims[0]


def test_pages_follow_each_other(site: Site) -> None:
    """Many of the same due time, and some go meanwhile: nobody is told twice or passed over."""
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    schedule_many_on_expiry({"signature": site.record(n), "at": at, "key": f"t{n}"} for n in range(130))
    schedule_many_on_expiry((site.record(n), 7200 + n) for n in range(20))
    site.redis.config_resetstat()
    cursor, seen = [], []
    for _ in range(5):
        output = expiry(site.app, "list", "--limit", "35", *cursor).stdout.splitlines()
        seen += [line.split()[4] for line in output[1:] if not line.startswith("more:")]
        cursor = output[-1].split()[1:] if output[-1].startswith("more:") else []
    assert not cursor
    assert len(seen) == len(set(seen)) == 150
    first, *_, last = told(site.app, "list", "--limit", "10")
    expiry(site.app, "cancel", first["name"], last["name"])
    rest = told(site.app, "list", "--limit", "1000", "--after", last["cursor"])
    assert len(rest) == 140
    assert "more:" not in expiry(site.app, "list", "--after", rest[-1]["cursor"]).stdout
    used = set(site.redis.info("commandstats"))
    assert not used & {"cmdstat_keys", "cmdstat_scan", "cmdstat_hgetall", "cmdstat_hscan", "cmdstat_zscan"}


def test_a_page_costs_what_it_shows(site: Site) -> None:
    schedule_many_on_expiry((site.record(n), 600 + n) for n in range(1000))
    expiry(site.app, "list", "--limit", "5")
    site.redis.config_resetstat()
    expiry(site.app, "list", "--limit", "5")
    assert site.redis.info("commandstats")["cmdstat_pttl"]["calls"] <= 100


def test_filters(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), 600, key="referral:1")
    schedule_on_expiry(site.record(2).set(queue="other"), 1800, key="referral:2")
    schedule_on_expiry(site.task("add").s(1, 2), 3600, key="cart:1")
    schedule_on_expiry(site.record(4), 4000, key="parked")
    park(site, shard, "parked")
    schedule_on_expiry(site.record(5), 0, key="claimed")
    claim(site, shard, "claimed")

    def names(*words: str) -> list[str]:
        return [timer["name"] for timer in told(site.app, "list", *words)]

    assert names() == ["claimed", "referral:1", "referral:2", "cart:1", "parked"]
    assert names("--task", "ledger.add") == ["cart:1"]
    assert names("--name", "referral:*") == ["referral:1", "referral:2"]
    assert names("--queue", "other") == ["referral:2"]
    assert names("--state", "parked", "--state", "claimed") == ["claimed", "parked"]
    assert names("--due-after", "20m", "--due-before", "50m") == ["referral:2"]
    later = (datetime.now(timezone.utc) + timedelta(minutes=20)).isoformat()
    assert names("--due-after", later) == ["referral:2", "cart:1"]
    assert names("--due-after", later.replace("+00:00", "Z"), "--name", "cart*") == ["cart:1"]
    assert expiry(site.app, "list", "--name", "nobody").stdout == "no timers\n"
    assert "'tomorrow' is neither" in expiry(site.app, "list", "--due-after", "tomorrow", code=2).stderr
    assert "--after" in expiry(site.app, "list", "--after", "here", code=2).stderr


def test_the_table(site: Site, shard: Shard) -> None:
    site.app.conf.timezone = "Asia/Tokyo"
    due = datetime(2030, 1, 31, 3, 0, 0, 123_000, timezone.utc)
    schedule_on_expiry(site.record(42, note="x"), at=due, key="named")
    id = schedule_on_expiry(site.record(1), at=due + timedelta(seconds=1)).id
    schedule_on_expiry(site.record(1), 600, key="\u202eevil")
    head, evil, named, unnamed = expiry(site.app, "list").stdout.splitlines()
    assert head.split() == ["REMAINING", "DUE", "(Asia/Tokyo)", "TIMER", "TASK", "ARGUMENTS"]
    assert named.split()[2:] == ["2030-01-31", "12:00:00", "named", "ledger.record", "42,", "'note':", "'x'"]
    assert unnamed.split()[4] == id
    assert "\\u202eevil" in evil


def test_all_that_is_known_of_one(site: Site, shard: Shard) -> None:
    signature = site.record("x").set(queue="other", priority=3, headers={"tenant": "acme"})
    result = schedule_on_expiry(signature, 600, key="known")
    [by_name] = told(site.app, "show", "known")
    [by_id] = told(site.app, "show", result.id)
    member = str(shard.find("known"))
    assert by_name | {"remaining": 0} == by_id | {"remaining": 0}
    assert by_name["id"] == by_name["headers"]["id"] == result.id
    assert by_name["headers"]["tenant"] == "acme"
    assert (by_name["queue"], by_name["priority"], by_name["state"]) == ("other", 3, "waiting")
    assert by_name["trigger_key"] == site.key(f"trigger:{member}")
    assert f"{by_name['generation']}:known" == member
    assert (by_name["attempts"], by_name["unsure"], by_name["kind"]) == (0, False, "message")
    output = expiry(site.app, "show", "known").stdout
    assert "    tenant: acme\n" in output
    assert member in output
    assert "no such timer: nobody" in expiry(site.app, "show", "nobody", code=1).stderr


def test_a_guard_and_a_debounce(site: Site) -> None:
    guard = {"unless_exists": ["paid:7", "left:7"], "only_if_exists": "cart:7"}
    schedule_on_expiry(site.record(1), 600, key="cart:7", max_wait=3600, **guard)
    [seen] = told(site.app, "show", "cart:7")
    assert seen["guard"] == {"unless_exists": ["paid:7", "left:7"], "only_if_exists": ["cart:7"]}
    assert abs(datetime.fromisoformat(seen["since"]).timestamp() - site.now()) < 60
    assert "    only_if_exists: ['cart:7']\n" in expiry(site.app, "show", "cart:7").stdout
    schedule_on_expiry(site.record(1), 600, key="plain")
    [plain] = told(site.app, "show", "plain")
    assert (plain["guard"], plain["since"]) == ({}, None)


def test_what_json_has_no_word_for(site: Site) -> None:
    """kombu keeps times, numbers and ids in headers; JSON tells them as text."""
    when, number, id = datetime(2030, 1, 31, tzinfo=timezone.utc), Decimal("1.5"), uuid4()
    headers = {"when": when, "number": number, "id_of": id}
    schedule_on_expiry(site.record("x").set(headers=headers), 600, key="known")
    [known] = told(site.app, "show", "known")
    assert {name: known["headers"][name] for name in headers} == {
        "when": str(when),
        "number": "1.5",
        "id_of": str(id),
    }


def test_attempts_and_what_the_broker_may_have(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), 0, key="tried")
    taken = claim(site, shard, "tried")
    [during] = told(site.app, "show", "tried")
    assert during["state"] == "claimed"
    assert during["lease_end"] > during["due"]
    shard.release(taken.token, [taken], delay=60, tried=True, unsure=True)
    [after] = told(site.app, "show", "tried")
    assert (after["attempts"], after["unsure"], after["state"]) == (1, True, "waiting")


def test_a_dead_letter(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record("x"), 0, key="bad")
    taken = claim(site, shard, "bad")
    shard.bury(taken, "no queue takes it", "expiry@here")
    schedule_on_expiry(site.task("add").s(1, 2), 0, key="worse")
    damaged = claim(site, shard, "worse")
    shard.bury(damaged, "why not", "expiry@here")
    site.redis.hset(site.key("timers"), damaged.member, "nonsense")
    for words in (("show", "bad"), ("dead", "show", "bad"), ("show", taken.id), ("dead", "show", taken.id)):
        [letter] = told(site.app, *words)
        assert (letter["state"], letter["reason"], letter["worker"]) == (
            "dead",
            "no queue takes it",
            "expiry@here",
        )
        assert letter["headers"]["task"] == letter["task"] == "ledger.record"
    assert told(site.app, "show", "worse")[0]["kind"] == "damaged"
    assert "no such dead letter" in expiry(site.app, "dead", "show", "nobody", code=1).stderr
    assert [each["timer"] for each in told(site.app, "dead", "list", "--task", "ledger.*")] == ["bad"]
    assert [each["timer"] for each in told(site.app, "dead", "list", "--name", "wor*")] == ["worse"]
    assert "no queue takes it" in expiry(site.app, "dead", "list").stdout


def test_dead_letters_retried_and_discarded(site: Site, shard: Shard) -> None:
    for name in ("a:1", "a:2", "b:1", "c:1"):
        schedule_on_expiry(site.record(name), 0, key=name)
        shard.bury(claim(site, shard, name), "why not", "me")
    assert "give --task" in expiry(site.app, "dead", "retry", code=2).stderr
    assert "give --task" in expiry(site.app, "dead", "retry", "--all", "a:1", code=2).stderr
    assert "no such dead letter: x" in expiry(site.app, "dead", "retry", "a:1", "x", code=1).stderr
    assert told(site.app, "dead", "retry", "--name", "a:*") == [{"retried": 2}]
    expiry(site.app, "dead", "discard", "b:1", input="n\n", code=1)
    assert site.dead() == 2
    assert told(site.app, "dead", "discard", "b:1", "--force") == [{"discarded": 1}]
    assert "1 discarded" in expiry(site.app, "dead", "discard", "--all", input="y\n").stdout
    assert (site.dead(), site.waiting()) == (0, 2)


def test_counts(site: Site, shard: Shard) -> None:
    schedule_on_expiry(site.record(1), 600)
    schedule_on_expiry(site.record(2), 0, key="due")
    schedule_on_expiry(site.record(3), 600, key="parked")
    park(site, shard, "parked")
    get_timer("due")  # a millisecond later at least
    [stats] = told(site.app, "stats")
    assert {name: stats[name] for name in ("waiting", "due", "parked", "claimed", "dead")} == {
        "waiting": 2,
        "due": 1,
        "parked": 1,
        "claimed": 0,
        "dead": 0,
    }
    assert stats["workers"] == {}
    output = expiry(site.app, "stats").stdout
    assert "waiting  2\n" in output
    assert "no expiry worker is running" in output


def test_a_worker_that_does_not_answer_is_told_of(site: Site, shard: Shard) -> None:
    shard.look("expiry@gone:token", limit=1, parked=0)
    assert told(site.app, "stats", "--timeout", "0.1")[0]["workers"] == {"expiry@gone": None}
    assert "expiry@gone: did not answer" in expiry(site.app, "stats", "--timeout", "0.1").stdout
    assert "expiry@gone: was not asked" in expiry(site.app, "stats", "--timeout", "0").stdout


def test_nobodys_timers() -> None:
    """`celery expiry`, and -A forgotten."""
    assert "celery -A proj expiry" in expiry(Celery("default", set_as_current=False), "list", code=1).stderr
    assert "expiry_redis_url" in expiry(Celery("shop", set_as_current=False), "list", code=1).stderr

"""A debounce with an upper bound: each call starts the time again, none puts it off beyond the bound.

Time passes by moving what is stored: a first call that is some seconds older than it is.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celery_redis_expiry import (
    InvalidTimer,
    cancel,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Shard, store_of
from celery_redis_expiry.timer import Stored
from tests.site import Site

NAME = "cart:42"
#: Seconds by which two times may differ that are the same.
SAME = 5.0


def call(site: Site, seconds: float = 600, max_wait: Any = 3600, **arguments: Any) -> float | None:
    """One call of the debounce; the seconds that remain then."""
    return schedule_on_expiry(
        site.record(1), seconds=seconds, key=NAME, max_wait=max_wait, **arguments
    ).remaining


def shard_of(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def member(site: Site) -> str:
    return str(shard_of(site).find(NAME))


def record_of(site: Site, target: str) -> bytes:
    with site.server.raw_client() as raw:
        return bytes(raw.hget(site.key("timers"), str(shard_of(site).find(target))))  # type: ignore[arg-type]


def stored_of(site: Site, target: str) -> Stored:
    stored = shard_of(site).kept(str(shard_of(site).find(target)))[0]
    assert isinstance(stored, Stored)
    return stored


def first_call(site: Site) -> int | None:
    return stored_of(site, NAME).since


def age(site: Site, seconds: float) -> None:
    """Let the first call have been so many seconds earlier."""
    record = record_of(site, NAME)
    since = first_call(site)
    assert since
    older = record.replace(b"%d," % since, b"%d," % (since - seconds * 1000), 1)
    assert older != record
    site.redis.hset(site.key("timers"), member(site), older)


def same(seconds: float | None, wanted: float) -> bool:
    return seconds is not None and wanted - SAME < seconds <= wanted


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize("if_exists", ["replace", "extend"])
def test_each_call_starts_it_again_up_to_the_bound(site: Site, if_exists: str) -> None:
    assert same(call(site, if_exists=if_exists), 600)
    since = first_call(site)
    assert since is not None
    assert abs(since / 1000 - site.now()) < SAME
    age(site, 1000)
    assert same(call(site, if_exists=if_exists), 600)
    assert first_call(site) == since - 1_000_000, "the first call's time is kept"
    age(site, 2200)
    assert same(call(site, if_exists=if_exists), 400)
    assert same(call(site, if_exists=if_exists), 400), "and not beyond"
    age(site, 1000)
    assert call(site, if_exists=if_exists) == 0
    assert site.waiting() == 1, "it is due at once"


def test_the_timer_tells_of_its_first_call(site: Site) -> None:
    call(site)
    age(site, 100)
    timer = get_timer(NAME, app=site.app)
    assert timer is not None
    assert timer.since is not None
    assert abs(timer.since.timestamp() - site.now() + 100) < SAME
    call(site, max_wait=None)
    assert get_timer(NAME, app=site.app).since is None  # type: ignore[union-attr]


def test_the_message_is_the_last_call_s(site: Site) -> None:
    """And the one that fires is as if never debounced."""
    schedule_on_expiry(site.record("first"), seconds=600, key=NAME, max_wait=3600)
    plain = schedule_on_expiry(site.record("last", "x" * 10_000), seconds=600)
    last = site.record("last", "x" * 10_000).set(task_id="mine")
    schedule_on_expiry(last, seconds=600, key=NAME, max_wait=3600)
    debounced, other = stored_of(site, NAME), stored_of(site, plain.id)
    assert debounced.id == "mine"
    assert set(debounced.content) == set(other.content)
    assert debounced.content["body"] == other.content["body"]


def test_who_names_no_bound_ends_it(site: Site) -> None:
    """A replace forgets the first call; the next with a bound is the first again."""
    call(site)
    age(site, 3500)
    assert same(call(site, max_wait=None), 600)
    assert first_call(site) is None
    assert same(call(site), 600)
    age(site, 100)
    assert same(call(site, max_wait=None, if_exists="extend"), 600), "an extend is not bound, but keeps it"
    age(site, 3500)
    assert call(site) == 0


def test_a_bound_for_what_had_none(site: Site) -> None:
    """The first call with a bound is the first."""
    for if_exists in ("replace", "extend"):
        call(site, max_wait=None)
        assert same(call(site, if_exists=if_exists), 600)
        assert abs(first_call(site) / 1000 - site.now()) < SAME  # type: ignore[operator]


def test_keep_and_raise_move_nothing(site: Site) -> None:
    call(site)
    since = first_call(site)
    assert same(call(site, seconds=900, if_exists="keep"), 600)
    assert first_call(site) == since
    assert cancel(NAME, app=site.app)
    assert same(call(site, if_exists="keep"), 600)
    assert first_call(site)


def test_reschedule_is_not_bound(site: Site) -> None:
    call(site)
    assert reschedule(NAME, seconds=7200, app=site.app)
    timer = get_timer(NAME, app=site.app)
    assert timer is not None
    assert same(timer.remaining, 7200)
    age(site, 3400)
    assert same(call(site), 200), "the next call is, by the first"


def test_it_goes_when_the_timer_fires_or_is_cancelled(site: Site) -> None:
    call(site)
    age(site, 3500)
    assert cancel(NAME, app=site.app)
    assert same(call(site), 600)
    age(site, 3600)
    assert call(site) == 0
    time.sleep(0.003)
    shard = shard_of(site)
    [claim] = shard.claim([(member(site), False)], token=new_token(), lease=60)
    # what is firing is a round of its own
    for if_exists in ("extend", "replace"):
        assert same(call(site, if_exists=if_exists), 600)
    assert shard.ack(claim.token, [claim]) == 1
    assert same(call(site), 600)
    assert cancel(NAME, app=site.app)
    assert site.stored() == {}


@pytest.mark.parametrize("bound", [None, 3600])
def test_an_extend_while_it_fires_begins_the_next_round(site: Site, bound: float | None) -> None:
    call(site)
    age(site, 3600)
    assert call(site) == 0
    time.sleep(0.003)
    assert len(shard_of(site).claim([(member(site), False)], token=new_token(), lease=60)) == 1
    assert same(call(site, if_exists="extend", max_wait=bound), 600)
    assert same(call(site), 600)


def test_a_clock_that_was_put_back(site: Site) -> None:
    call(site)
    age(site, -7200)
    assert same(call(site), 600)
    assert abs(first_call(site) / 1000 - site.now()) < SAME  # type: ignore[operator]


def test_with_a_guard(site: Site) -> None:
    for _ in range(2):
        call(site, unless_exists="paid:42")
        timer = get_timer(NAME, app=site.app)
        assert timer is not None
        assert timer.unless_exists == ("paid:42",)
        assert timer.since is not None


@pytest.mark.usefixtures("face")
def test_many_at_once(site: Site) -> None:
    def items() -> Any:
        for number in range(60):
            yield {
                "signature": site.record(number),
                "seconds": timedelta(minutes=10),
                "key": f"cart:{number}",
                "max_wait": timedelta(hours=1),
            }

    assert schedule_many_on_expiry(items()).scheduled == 60
    age(site, 3400)
    dues: list[float | None] = []
    summary = schedule_many_on_expiry(items(), on_result=lambda _, result: dues.append(result.remaining))
    assert summary.scheduled == 60
    assert same(dues.pop(42), 200)
    assert all(same(due, 600) for due in dues)
    bad = [{"signature": site.record(1), "seconds": 600, "max_wait": 3600}]
    assert "key=" in str(schedule_many_on_expiry(bad).errors[0].error)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seconds": 600, "max_wait": 3600}, "needs key="),
        ({"seconds": 600, "max_wait": 599, "key": "a"}, "less than seconds"),
        ({"at": None, "seconds": 1, "max_wait": "1", "key": "a"}, "max_wait must be a number"),
        ({"seconds": 600, "max_wait": float("inf"), "key": "a"}, "max_wait must be finite"),
        ({"seconds": 0, "max_wait": -1, "key": "a"}, "max_wait must be at least 0"),
        ({"seconds": 0, "max_wait": 1e14, "key": "a"}, "beyond the year 9999"),
    ],
)
def test_refused(site: Site, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidTimer, match=re.escape(told)):
        schedule_on_expiry(site.record(1), **arguments)


def test_a_time_of_day_can_t_be_debounced(site: Site) -> None:
    with pytest.raises(InvalidTimer, match="goes with seconds"):
        schedule_on_expiry(
            site.record(1), at=datetime(2999, 1, 1, tzinfo=timezone.utc), key="a", max_wait=3600
        )


def test_of_damaged_messages_the_first_call_is_unknown(site: Site) -> None:
    for damage in (b"", b"{}", b"1:2:ab", b"1:1:a{", b'1:1:a{"since":x,}', b"1:999:a{}", b'9:1:a{"since":'):
        call(site)
        site.redis.hset(site.key("timers"), member(site), damage)
        assert same(call(site), 600)
    assert re.match(rb"4:36:.{36}\d{13},", record_of(site, NAME))

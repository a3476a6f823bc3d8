"""Recurring timers in Redis, without workers: how they are armed, and what one occurrence leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import chain, group
from celery.schedules import crontab, schedule

from celery_redis_expiry import (
    InvalidTimer,
    RecurringTimer,
    Timer,
    TimerExists,
    cancel,
    get_timer,
    iter_timers,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.blocking import run
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.messages import awaited_by
from celery_redis_expiry.store import Claims, Shard, store_of
from celery_redis_expiry.timer import Claimed, DeadLetter, Stored
from celery_redis_expiry.worker.bounds import Bounds
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.settler import Settler
from tests.integration.commands import expiry, told
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

NAME = "report"
DAY = timedelta(days=1)
#: What one recurring timer with a name leaves in Redis.
ARMED = {"due": 1, "timers": 1, "names": 1, "ids": 1, "trigger": 1}


@pytest.fixture
def site(redis_server: RedisServer, make_site: Callable[..., Site]) -> Site:
    site = make_site()
    site.reset()
    return site


@pytest.fixture
def shard(site: Site) -> Shard:
    return store_of(site.app).shards[0]


def recurring(site: Site, every: Any = DAY, **options: Any) -> RecurringTimer:
    signature = options.pop("signature", None) or site.record("r")
    made = schedule_on_expiry(signature, every=every, **{"key": NAME, **options})
    assert isinstance(made, RecurringTimer)
    return made


def timer(site: Site) -> Timer:
    found = get_timer(NAME, app=site.app)
    assert found is not None
    return found


def claim(shard: Shard, member: str) -> Claims:
    return shard.claim([(member, False)], token=new_token(), lease=60)


def member_of(site: Site, shard: Shard) -> str:
    found = shard.find(NAME)
    assert found is not None
    return found


def fire(site: Site, shard: Shard, figures: Figures | None = None) -> list[Claimed]:
    """What an expiry worker does with the recurring timer: the claims of its occurrences."""
    due = claim(shard, member_of(site, shard))
    assert list(due) == []
    occurrences, broken = Recurrence(site.app, figures or Figures()).occurrences(shard, due.recurring)
    assert broken == {}
    return [each for member, _ in occurrences for each in claim(shard, member)]


def wait_due(site: Site, due: datetime) -> None:
    eventually(lambda: site.now() > due.timestamp() + 0.001, what="its time")


def content(claimed: Claimed) -> dict[str, Any]:
    assert isinstance(claimed.stored, Stored)
    return claimed.stored.content


def test_each_occurrence_is_a_timer_of_its_own(site: Site, shard: Shard) -> None:
    made = recurring(site, seconds=0)
    before = timer(site)
    assert before.due is not None
    assert (before.every, before.fired, before.last, made.id) == ("every day", 0, None, before.id)
    wait_due(site, before.due)
    [first] = fire(site, shard)
    after = timer(site)
    # no drift: from its due time, not from now
    assert after.due == before.due + DAY
    assert (after.id, after.trigger_key) == (before.id, before.trigger_key)
    assert (after.fired, after.last, after.last_id) == (1, before.due, first.id)
    assert (after.missed, after.skipped) == (0, 0)
    headers = content(first)["arguments"]["headers"]
    assert headers["id"] == headers["root_id"] == content(first)["arguments"]["correlation_id"] == first.id
    assert first.id != before.id
    assert headers["periodic_task_name"] == NAME
    assert headers["expiry_due"] == before.due.isoformat()
    assert headers["expiry_missed"] == 0
    assert awaited_by(content(first)) == NAME
    assert headers["expiry_awaited"] is True
    assert datetime.fromtimestamp(first.due / 1000, timezone.utc) == before.due
    assert shard.ack(first.token, [first]) == 1
    assert site.stored() == ARMED
    assert fire(site, shard) == []


def test_only_one_worker_makes_the_occurrence(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    member = member_of(site, shard)
    several = [claim(shard, member).recurring for _ in range(3)]
    assert [len(each) for each in several] == [1, 1, 1]
    made = [Recurrence(site.app, Figures()).occurrences(shard, each)[0] for each in several]
    assert [len(each) for each in made] == [1, 0, 0]
    assert timer(site).fired == 1
    assert len(list(iter_timers(app=site.app))) == 2


def test_a_crash_after_arming_leaves_the_occurrence_due(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    due = claim(shard, member_of(site, shard)).recurring
    Recurrence(site.app, Figures()).occurrences(shard, due)
    # its worker is dead by now; any other finds it in the index
    look = shard.look("another", limit=10, parked=10)
    [(left, _)] = look.due
    first = claim(shard, left)
    assert [awaited_by(content(each)) for each in first] == [NAME]
    # published, perhaps, by one that died before it said so: the same task id
    shard.release(first[0].token, first, unsure=True)
    again = claim(shard, left)
    assert [each.id for each in again] == [each.id for each in first]


@pytest.mark.parametrize("every", [timedelta(milliseconds=200), schedule(0.2)])
def test_what_was_missed_is_one_occurrence(site: Site, shard: Shard, every: Any) -> None:
    recurring(site, every=every, overlap=True)
    first = timer(site).due
    assert first is not None
    wait_due(site, first + timedelta(milliseconds=700))
    figures = Figures()
    [claimed] = fire(site, shard, figures)
    told = timer(site)
    assert told.missed >= 3
    assert figures.snapshot().missed == told.missed
    assert told.last == first + told.missed * timedelta(milliseconds=200)
    assert told.due == told.last + timedelta(milliseconds=200)
    assert told.fired == 1
    assert content(claimed)["arguments"]["headers"]["expiry_missed"] == told.missed


def test_no_overlap_unless_asked(site: Site, shard: Shard) -> None:
    figures = Figures()
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    [first] = fire(site, shard, figures)
    shard.ack(first.token, [first])
    reschedule(NAME, seconds=0, app=site.app)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert fire(site, shard, figures) == []
    skipped = timer(site)
    assert (skipped.fired, skipped.skipped, skipped.last_id) == (1, 1, first.id)
    assert figures.snapshot().skipped == 1
    assert site.stored() == ARMED
    # another's end is not its own
    calls = store_of(site.app).calls
    assert run(calls.finish(NAME, "another")) is False
    assert run(calls.finish(NAME, first.id)) is True
    reschedule(NAME, seconds=0, app=site.app)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(fire(site, shard, figures)) == 1


def test_a_dead_letter_is_not_awaited(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    [first] = fire(site, shard)
    assert site.redis.get(site.key(f"running:{NAME}")) == first.id
    Settler(store_of(site.app), Lanes(1), "worker", Bounds(10, 86400), Figures()).bury(first, "refused")
    assert not site.redis.get(site.key(f"running:{NAME}"))
    assert site.dead() == 1


def test_only_who_is_awaited_says_so(site: Site, shard: Shard) -> None:
    """Workers ask Redis for nothing else."""
    for overlap in (True, False):
        recurring(site, seconds=0, overlap=overlap)
        wait_due(site, timer(site).due)  # type: ignore[arg-type]
        [claimed] = fire(site, shard)
        assert awaited_by(content(claimed)) == (None if overlap else NAME)


def test_the_bound_of_waiting_for_a_task(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0, overlap=0.3)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(fire(site, shard)) == 1
    assert 0 < site.redis.pttl(site.key(f"running:{NAME}")) <= 300
    eventually(lambda: not site.redis.exists(site.key(f"running:{NAME}")), what="the mark's end")
    reschedule(NAME, seconds=0, app=site.app)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(fire(site, shard)) == 1


def test_the_setting_bounds_it(make_site: Callable[..., Site]) -> None:
    site = make_site(expiry_overlap_timeout=77)
    site.reset()
    shard = store_of(site.app).shards[0]
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    fire(site, shard)
    assert 70_000 < site.redis.pttl(site.key(f"running:{NAME}")) <= 77_000


def test_one_that_is_moved_keeps_its_schedule(site: Site, shard: Shard) -> None:
    recurring(site, every=DAY, overlap=True)
    planned = timer(site).due
    assert planned is not None
    assert reschedule(NAME, seconds=0, app=site.app) is True
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    [extra] = fire(site, shard)
    assert timer(site).due == planned
    assert extra.due / 1000 < planned.timestamp()


def test_who_extends_its_trigger_key_moves_it(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0.05)
    key = timer(site).trigger_key
    site.redis.pexpire(key, 900_000)
    assert fire(site, shard) == []
    told = timer(site)
    assert told.remaining is not None
    assert 890 < told.remaining <= 900
    site.redis.persist(key)
    assert fire(site, shard) == []
    assert timer(site).state == "parked"


def test_cancelled_while_it_is_due(site: Site, shard: Shard) -> None:
    made = recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    due = claim(shard, member_of(site, shard)).recurring
    assert made.cancel() is True
    assert Recurrence(site.app, Figures()).occurrences(shard, due) == ([], {})
    assert site.stored() == {}
    assert made.timer is None
    assert (made.due, made.remaining, made.cancel(), cancel(made)) == (None, None, False, False)


def test_replaced_while_it_is_due(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    due = claim(shard, member_of(site, shard)).recurring
    recurring(site, every=2 * DAY)
    assert Recurrence(site.app, Figures()).occurrences(shard, due) == ([], {})
    assert timer(site).every == "every 2 days"
    assert site.stored() == ARMED


def test_a_template_that_is_lost_is_brought_again(site: Site, shard: Shard) -> None:
    """Occurrences are stored by one, as all timers of a kind."""
    recurring(site, seconds=0, overlap=True)
    for _ in range(2):
        wait_due(site, timer(site).due)  # type: ignore[arg-type]
        [claimed] = fire(site, shard)
        assert isinstance(claimed.stored, Stored)
        assert claimed.stored.template is not None
        assert site.redis.delete(site.key("templates"), site.key("used")) == 2
        reschedule(NAME, seconds=0, app=site.app)


def test_without_a_name_it_goes_by_its_id(site: Site) -> None:
    made = schedule_on_expiry(site.record(1), every=60)
    assert isinstance(made, RecurringTimer)
    assert (made.name, made.label) == (None, made.id)
    assert made.timer is not None
    assert made.timer.name is None
    found = get_timer(made)
    assert found is not None
    assert found.id == made.id
    assert made.reschedule(seconds=30) is True
    assert made.remaining is not None
    assert made.remaining <= 30
    assert cancel(made) is True


def test_keep_leaves_the_schedule_as_it_is(site: Site) -> None:
    first = recurring(site, every=60)
    before = timer(site)
    assert recurring(site, every=90, if_exists="keep").id == first.id
    assert timer(site).due == before.due
    assert recurring(site, every=90).id != first.id
    assert timer(site).every == "every 90 seconds"


def test_crontab(site: Site, shard: Shard) -> None:
    recurring(site, every=crontab(hour=4, minute=0, day_of_week="mon"))
    told = timer(site)
    assert told.every == "crontab 0 4 * * mon"
    assert told.due is not None
    assert (told.due.hour, told.due.minute, told.due.second, told.due.isoweekday()) == (4, 0, 0, 1)
    assert told.due.timestamp() > site.now()
    assert reschedule(NAME, seconds=0, app=site.app)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(fire(site, shard)) == 1
    assert timer(site).due == told.due


def test_canvas(site: Site, shard: Shard) -> None:
    signature = chain(site.record("a"), site.record("b"))
    recurring(site, signature=signature, seconds=0, overlap=True)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    seen = []
    for _ in range(2):
        [claimed] = fire(site, shard)
        ids = [task["options"]["task_id"] for task in content(claimed)["signature"]["kwargs"]["tasks"]]
        assert claimed.id == ids[-1]
        headers = content(claimed)["signature"]["kwargs"]["tasks"][0]["options"]["headers"]
        assert headers["periodic_task_name"] == NAME
        seen += ids
        reschedule(NAME, seconds=0, app=site.app)
        wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(set(seen)) == 4


def test_one_that_can_not_go_on_becomes_a_dead_letter(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    member = member_of(site, shard)
    record = site.redis.hget(site.key("timers"), member)
    site.redis.hset(site.key("timers"), member, record.replace('"interval"', '"sidereal"'))
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    due = claim(shard, member).recurring
    occurrences, broken = Recurrence(site.app, Figures()).occurrences(shard, due)
    assert occurrences == []
    [claimed] = shard.claim_broken(broken, token="token", lease=60)
    assert "sidereal" in str(claimed.stored)
    assert shard.bury(claimed, str(claimed.stored), "worker")
    assert site.dead() == 1
    # mended, it goes on
    site.redis.hset(site.key("timers"), member, record)
    [letter] = store_of(site.app).dead_letters()
    assert store_of(site.app).retry(letter)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    assert len(fire(site, shard)) == 1


def bury_recurring(site: Site, shard: Shard) -> DeadLetter:
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    [broken] = claim(shard, member_of(site, shard)).recurring
    [claimed] = shard.claim_broken({broken: "no schedule"}, token="token", lease=60)
    assert shard.bury(claimed, "no schedule", "worker")
    [letter] = store_of(site.app).dead_letters()
    return letter


def test_a_dead_letter_whose_name_another_has_by_now_stays_one(site: Site, shard: Shard) -> None:
    """Both would recur for ever, and only one of them could be cancelled by name."""
    recurring(site, seconds=0)
    letter = bury_recurring(site, shard)
    second = recurring(site)
    with pytest.raises(TimerExists, match="another timer waits under the name report"):
        store_of(site.app).retry(letter)
    refused = expiry(site.app, "dead", "retry", NAME, code=1)
    assert "another timer waits under the name report" in refused.stderr
    assert "0 wait again" in refused.stdout
    assert (site.waiting(), site.dead()) == (1, 1)
    second.cancel()
    assert told(site.app, "dead", "retry", NAME) == [{"retried": 1}]
    assert timer(site).id == letter.id
    assert (site.waiting(), site.dead()) == (1, 0)


def test_a_full_redis_fires(redis_server: RedisServer, site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    site.redis.config_set("maxmemory-policy", "noeviction")
    site.redis.config_set("maxmemory", 1)
    try:
        [claimed] = fire(site, shard)
        assert shard.ack(claimed.token, [claimed]) == 1
        assert timer(site).fired == 1
    finally:
        site.redis.config_set("maxmemory", 0)


class Odd(schedule):
    """A schedule of a user's own."""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"every": 0}, "from 0.1 seconds"),
        ({"every": -1}, "from 0.1 seconds"),
        ({"every": float("nan")}, "from 0.1 seconds"),
        ({"every": True}, "must be seconds"),
        ({"every": "daily"}, "must be seconds"),
        ({"every": Odd(5)}, "is a Odd"),
        ({"every": 60, "max_wait": 60}, "max_wait doesn't go with every"),
        ({"every": 60, "unless_exists": "k"}, "unless_exists doesn't go with every"),
        ({"every": 60, "watch": "k"}, "watch doesn't go with every"),
        ({"every": 60, "if_exists": "extend"}, "extend keeps"),
        ({"every": 60, "overlap": 0}, "overlap must be"),
        ({"every": 60, "overlap": "no"}, "overlap must be"),
        ({"seconds": 60, "overlap": True}, "goes with every"),
    ],
)
def test_refused(site: Site, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidTimer, match=says):
        schedule_on_expiry(site.record(1), **{"key": NAME, **arguments})
    assert site.stored() == {}


def test_refused_signatures(site: Site) -> None:
    with pytest.raises(InvalidTimer, match="leave task_id out"):
        recurring(site, signature=site.record(1).set(task_id="mine"))
    with pytest.raises(InvalidTimer, match="of a group have ended"):
        recurring(site, signature=group(site.record(1), site.record(2)))
    assert site.stored() == {}


def test_protocol_1_is_refused(make_site: Callable[..., Site]) -> None:
    site = make_site(task_protocol=1)
    site.reset()
    with pytest.raises(InvalidTimer, match="task_protocol 2"):
        recurring(site)
    assert site.stored() == {}


def test_eager(make_site: Callable[..., Site]) -> None:
    """With `task_always_eager` it runs once, at once."""
    site = make_site(task_always_eager=True)
    site.reset()
    result = schedule_on_expiry(site.record("now"), every=60, key=NAME)
    assert result.get() == "now"  # type: ignore[union-attr]
    assert site.stored() == {}


def test_listed_and_shown(site: Site, shard: Shard) -> None:
    recurring(site, seconds=0)
    wait_due(site, timer(site).due)  # type: ignore[arg-type]
    [first] = fire(site, shard)
    shard.ack(first.token, [first])
    assert "ledger.record (every day)" in expiry(site.app, "list").stdout
    [listed] = told(site.app, "list")
    assert (listed["name"], listed["every"]) == (NAME, "every day")
    [shown] = told(site.app, "show", NAME)
    assert (shown["fired"], shown["skipped"], shown["missed"], shown["last_id"]) == (1, 0, 0, first.id)
    assert told(site.app, "cancel", NAME)[0]["cancelled"] is True


def test_a_shard_of_many(make_site: Callable[..., Site]) -> None:
    """Each occurrence lies where its task id says."""
    site = make_site(expiry_shards=16)
    site.reset()
    for number in range(6):
        made = schedule_on_expiry(site.record(number), 0, every=60, key=f"r{number}")
        assert isinstance(made, RecurringTimer)
        wait_due(site, made.due)  # type: ignore[arg-type]
        shard = store_of(site.app).home(made.label)
        due = shard.claim([(str(shard.find(made.label)), False)], token=new_token(), lease=60).recurring
        [(member, _)], _ = Recurrence(site.app, Figures()).occurrences(shard, due)
        [claimed] = shard.claim([(member, False)], token=new_token(), lease=60)
        assert store_of(site.app).home(claimed.id) is shard
        found = get_timer(claimed.id, app=site.app)
        assert found is not None
        assert found.state == "claimed"


def test_not_in_bulk(site: Site) -> None:
    summary = schedule_many_on_expiry([{"signature": site.record(1), "every": 60}], app=site.app)
    assert summary.scheduled == 0
    assert "not scheduled in bulk" in str(summary.errors[0].error)

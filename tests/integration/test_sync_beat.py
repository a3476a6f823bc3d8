"""`celery expiry sync-beat`: what it makes of a `beat_schedule`, and that repeating it changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab, schedule

from celery_redis_expiry import Timer, cancel, get_timer, reschedule, schedule_on_expiry
from celery_redis_expiry.beat import Change, _Sync, sync
from celery_redis_expiry.store import Kept, store_of
from celery_redis_expiry.timer import Stored
from tests.integration.commands import expiry
from tests.integration.commands import told as told_by
from tests.servers.redis import RedisServer
from tests.site import Site
from tests.waiting import eventually

SCHEDULE: dict[str, dict[str, Any]] = {
    "nightly": {"task": "ledger.record", "schedule": crontab(hour=4, minute=0), "args": ("n",)},
    "often": {"task": "ledger.record", "schedule": 30, "kwargs": {"label": "o"}},
    "on the hour": {"task": "ledger.add", "schedule": timedelta(hours=2), "relative": True, "args": [1, 2]},
    "elsewhere": {
        "task": "not.registered.here",
        "schedule": schedule(60),
        "options": {"queue": "other", "priority": 3, "expires": 15, "headers": {"mine": "1"}},
    },
}


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    site.reset()
    site.app.conf.beat_schedule = dict(SCHEDULE)
    return site


def told(site: Site, **options: Any) -> dict[str, str]:
    return {change.name: change.what for change in sync(site.app, **options)}


def timer(site: Site, name: str) -> Timer:
    found = get_timer(name, app=site.app)
    assert found is not None, name
    return found


def kept(site: Site, name: str) -> Kept:
    shard = store_of(site.app).home(name)
    found = shard.kept_as(str(shard.find(name)))
    assert found is not None
    return found


def stored(site: Site, name: str) -> Stored:
    found = kept(site, name).stored
    assert isinstance(found, Stored)
    return found


def test_what_it_makes(site: Site) -> None:
    before = site.now()
    assert told(site, dry=True) == dict.fromkeys(SCHEDULE, "added")
    assert site.stored() == {}
    changes = list(sync(site.app))
    assert changes[0] == Change("elsewhere", "added", "not.registered.here", "every minute")
    assert {name: timer(site, name).every for name in SCHEDULE} == {
        "nightly": "crontab 0 4 * * *",
        "often": "every 30 seconds",
        "on the hour": "every 2 hours, on the hour",
        "elsewhere": "every minute",
    }
    often, nightly, hourly = (timer(site, name) for name in ("often", "nightly", "on the hour"))
    assert often.due is not None
    assert 0 <= often.due.timestamp() - before - 30 < 20
    assert nightly.due is not None
    assert (nightly.due.hour, nightly.due.minute) == (4, 0)
    assert hourly.due is not None
    assert hourly.due.minute == hourly.due.second == 0
    assert (often.kwargs, nightly.args, hourly.args) == ("{'label': 'o'}", "('n',)", "(1, 2)")
    other = stored(site, "elsewhere").content
    assert (timer(site, "elsewhere").queue, timer(site, "elsewhere").priority) == ("other", 3)
    assert other["expires"] == 15
    assert other["arguments"]["headers"]["mine"] == "1"
    # as with beat
    assert all(stored(site, name).recurring.plan.bound is None for name in SCHEDULE)  # type: ignore[union-attr]


def test_repeated_it_changes_nothing(site: Site) -> None:
    told(site)
    records = site.redis.hgetall(site.key("timers"))
    assert told(site) == dict.fromkeys(SCHEDULE, "unchanged")
    assert told(site, dry=True) == dict.fromkeys(SCHEDULE, "unchanged")
    assert site.redis.hgetall(site.key("timers")) == records


def test_a_changed_call_keeps_its_time(site: Site) -> None:
    told(site)
    assert reschedule("nightly", seconds=3000, app=site.app)
    before = timer(site, "nightly")
    site.app.conf.beat_schedule["nightly"] = {**SCHEDULE["nightly"], "args": ("other",)}
    assert told(site, dry=True)["nightly"] == "changed"
    assert timer(site, "nightly").args == "('n',)"
    assert told(site) == {**dict.fromkeys(SCHEDULE, "unchanged"), "nightly": "changed"}
    after = timer(site, "nightly")
    assert (after.args, after.due, after.trigger_key) == ("('other',)", before.due, before.trigger_key)
    assert told(site) == dict.fromkeys(SCHEDULE, "unchanged")


def test_a_changed_schedule_begins_anew(site: Site) -> None:
    told(site)
    site.app.conf.beat_schedule["often"] = {**SCHEDULE["often"], "schedule": 600}
    assert told(site)["often"] == "changed"
    assert timer(site, "often").every == "every 10 minutes"
    assert timer(site, "often").remaining > 500  # type: ignore[operator]
    assert told(site, overlap=False) == dict.fromkeys(SCHEDULE, "changed")
    assert stored(site, "often").recurring.plan.bound == 3_600_000  # type: ignore[union-attr]


def test_what_is_gone_goes(site: Site) -> None:
    told(site)
    mine = schedule_on_expiry(site.record(1), every=60, key="mine")
    del site.app.conf.beat_schedule["often"], site.app.conf.beat_schedule["nightly"]
    left = {"on the hour": "unchanged", "elsewhere": "unchanged"}
    assert told(site, remove=False) == left
    assert told(site, dry=True) == {**left, "often": "removed", "nightly": "removed"}
    assert get_timer("often", app=site.app) is not None
    assert told(site) == {**left, "often": "removed", "nightly": "removed"}
    assert get_timer("often", app=site.app) is None
    assert told(site) == left
    assert mine.timer is not None
    assert sorted(site.redis.hkeys(site.key("beat"))) == ["elsewhere", "on the hour"]


def test_who_cancels_one_gets_it_back(site: Site) -> None:
    told(site)
    assert cancel("often", app=site.app)
    assert told(site)["often"] == "added"


def test_timers_of_users_own_are_left_alone(site: Site) -> None:
    mine = schedule_on_expiry(site.record(1), 600, key="often")
    changes = {change.name: change for change in sync(site.app)}
    assert changes["often"].what == "refused"
    assert "not of sync-beat" in changes["often"].reason
    assert mine.remaining is not None
    # one that took the name of what was ours
    assert schedule_on_expiry(site.record(1), 600, key="nightly").remaining is not None
    del site.app.conf.beat_schedule["nightly"]
    assert "nightly" not in told(site)
    assert timer(site, "nightly").every is None


@pytest.mark.parametrize("what", ["removed", "changed"])
def test_who_takes_the_name_meanwhile_keeps_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Between finding its own timer and acting on it."""
    told(site)
    if what == "removed":
        del site.app.conf.beat_schedule["often"]
    else:
        site.app.conf.beat_schedule["often"] = {**SCHEDULE["often"], "schedule": 600}
    find, mine = _Sync._find, []

    def slowly(self: _Sync, name: str) -> Any:
        found = find(self, name)
        if name == "often" and not mine:
            mine.append(schedule_on_expiry(site.record("mine"), 900, key="often"))
        return found

    monkeypatch.setattr(_Sync, "_find", slowly)
    assert told(site).get("often") == (None if what == "removed" else "refused")
    assert timer(site, "often").id == mine[0].id
    # and the next run forgets the name
    assert "often" in store_of(site.app).shards[0].beat_names()
    site.app.conf.beat_schedule.pop("often", None)
    assert "often" not in told(site)
    assert "often" not in store_of(site.app).shards[0].beat_names()
    assert timer(site, "often").id == mine[0].id


def test_a_retried_dead_letter_is_kept_again(site: Site) -> None:
    """Its entry went while it was one, and its name was forgotten."""
    told(site)
    assert reschedule("often", seconds=0, app=site.app)
    due = timer(site, "often").due
    assert due is not None
    eventually(lambda: site.now() > due.timestamp() + 0.001, what="its time")
    store = store_of(site.app)
    shard = store.home("often")
    [broken] = shard.claim([(str(shard.find("often")), False)], token="first", lease=60).recurring
    [claimed] = shard.claim_broken({broken: "why not"}, token="second", lease=60)
    assert shard.bury(claimed, "why not", "worker")
    del site.app.conf.beat_schedule["often"]
    assert "often" not in told(site)
    assert "often" not in store.shards[0].beat_names()
    [letter] = store.dead_letters()
    assert store.retry(letter)
    assert told(site)["often"] == "removed"
    assert get_timer("often", app=site.app) is None


def test_a_crash_in_the_middle_is_made_up_for(site: Site) -> None:
    """The name is written first, and forgotten last."""
    shard = store_of(site.app).shards[0]
    shard.add_beat_name("often")
    shard.add_beat_name("gone")
    assert told(site) == dict.fromkeys(SCHEDULE, "added")
    assert "gone" not in shard.beat_names()


def test_what_came_from_another_redis_is_known(site: Site) -> None:
    told(site)
    site.redis.delete(site.key("beat"))
    assert told(site) == dict.fromkeys(SCHEDULE, "unchanged")
    assert sorted(site.redis.hkeys(site.key("beat"))) == sorted(SCHEDULE)


def test_two_at_once(redis_server: RedisServer, make_site: Callable[..., Site], site: Site) -> None:
    others = [make_site() for _ in range(3)]
    entries = {f"e{n}": {"task": "ledger.record", "schedule": 60 + n} for n in range(40)}
    answers: list[dict[str, str]] = []
    for round_ in range(3):
        barrier = threading.Barrier(3)
        for other in others:
            other.app.conf.beat_schedule = {
                name: {**entry, "args": (round_,)} for name, entry in entries.items()
            }

        def go(other: Site, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            answers.append(told(other))

        threads = [threading.Thread(target=go, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == 3 * (round_ + 1)
        assert {name: timer(site, name).args for name in entries} == dict.fromkeys(entries, f"({round_},)")
        assert site.waiting() == site.redis.hlen(site.key("names")) == 40
        # each was added by exactly one
        each = [sorted(answer[name] for answer in answers) for name in entries]
        assert round_ or each == [["added", "unchanged", "unchanged"]] * 40


def test_what_can_not_be_a_timer_is_refused_alone(site: Site) -> None:
    class Odd(schedule):
        """Of a user's own."""

    site.app.conf.beat_schedule |= {
        "lazy": {"task": "ledger.record", "schedule": 5, "args": (BeatLazyFunc(str),)},
        "odd": {"task": "ledger.record", "schedule": Odd(5)},
        "late": {"task": "ledger.record", "schedule": 5, "options": {"countdown": 5}},
        "same id": {"task": "ledger.record", "schedule": 5, "options": {"task_id": "x"}},
        "none": {"task": "ledger.record"},
        "unknown": {"task": "ledger.record", "schedule": 5, "when": 7},
        "x" * 300: {"task": "ledger.record", "schedule": 5},
    }
    changes = {change.name: change for change in sync(site.app)}
    refused = {name: change.reason for name, change in changes.items() if change.what == "refused"}
    assert {name: change.what for name, change in changes.items() if name not in refused} == dict.fromkeys(
        SCHEDULE, "added"
    )
    assert "BeatLazyFunc" in refused["lazy"]
    assert "Odd" in refused["odd"]
    assert "countdown" in refused["late"]
    assert "task_id" in refused["same id"]
    assert "no schedule" in refused["none"]
    assert "when" in refused["unknown"]
    assert "256" in refused["x" * 300]


def test_what_beat_adds_by_itself(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """Results that do not expire by themselves are cleaned up at night."""
    site = make_site()
    site.reset()
    site.app.conf.result_backend = f"file://{tmp_path}"
    assert told(site) == {"celery.backend_cleanup": "added"}
    assert timer(site, "celery.backend_cleanup").every == "crontab 0 4 * * *"


def test_add_periodic_task(site: Site) -> None:
    def add(sender: Any, **_: Any) -> None:
        sender.add_periodic_task(10.0, site.record("p"), name="added")

    site.app.on_after_finalize.connect(add)
    site.app.finalized = False
    assert told(site)["added"] == "added"
    assert timer(site, "added").args == "('p',)"


def test_the_command(site: Site) -> None:
    site.app.conf.beat_schedule["odd"] = {"task": "ledger.record", "schedule": "daily"}
    dry = expiry(site.app, "sync-beat", "--dry-run", code=1)
    assert "4 added, 1 refused (dry run: nothing was changed)" in dry.stdout
    assert site.stored() == {}
    done = expiry(site.app, "sync-beat", "--no-overlap", code=1)
    assert "added     nightly (crontab 0 4 * * *, ledger.record)" in done.stdout
    assert "refused   odd: it is no entry of beat_schedule" in done.stderr
    del site.app.conf.beat_schedule["odd"]
    again = told_by(site.app, "sync-beat", "--no-overlap")
    assert [line["what"] for line in again] == ["unchanged"] * 4

"""What an older release has stored is listed, moved, cancelled, retried and fired by this one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_redis_expiry import __version__, cancel, get_timer, reschedule
from celery_redis_expiry.store import store_of
from celery_redis_expiry.worker.service import broker_identity
from tests.releases import dump
from tests.servers.redis import REPOSITORY
from tests.site import Run, Site
from tests.waiting import eventually

Timers = list[dict[str, Any]]


@pytest.fixture(params=dump.releases())
def recorded(request: pytest.FixtureRequest) -> dump.Dump:
    return dump.read(request.param)


def load(site: Site, recorded: dump.Dump, elapsed: float) -> dict[str, int]:
    assert recorded["base"] == site.key("")
    return dump.load(site.redis, recorded, elapsed=elapsed, broker=broker_identity(site.app))


def in_state(recorded: dump.Dump, *states: str) -> Timers:
    return [timer for timer in recorded["timers"] if timer["state"] in states]


def test_every_release_of_the_changelog_is_recorded() -> None:
    released = re.findall(r"^## (\d[\d.]+)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    # the one in the making is recorded last of all
    assert set(released) - {__version__}
    assert set(released) - {__version__} <= set(dump.releases()), "python -m tests.releases.record"


def test_listed(idle_site: Site, recorded: dump.Dump) -> None:
    dues = load(idle_site, recorded, elapsed=10)
    store = store_of(idle_site.app)
    store.enter(broker_identity(idle_site.app))
    for told in in_state(recorded, "waiting", "parked", "claimed"):
        for target in filter(None, (told["name"], told["id"])):
            timer = get_timer(target, app=idle_site.app)
            assert timer is not None, told
            assert (timer.id, timer.name, timer.task, timer.state) == (
                told["id"], told["name"], told["task"], told["state"]
            )  # fmt: skip
            if told["state"] == "parked":
                assert timer.due is None
            else:
                assert timer.due is not None
                # the TTL was set a moment after the index, and rules
                assert abs(timer.due.timestamp() * 1000 - dues[told["label"]]) < 1000
    [dead] = in_state(recorded, "dead")
    assert get_timer(dead["label"], app=idle_site.app) is None
    [letter] = store.dead_letters()
    assert (letter.label, letter.reason) == (dead["label"], dead["reason"])
    counted = {"waiting": "waiting", "parked": "parked", "claimed": "claimed", "dead": "dead"}
    counts = store.counts()
    assert {state: counts[name] for state, name in counted.items()} == {
        state: len(in_state(recorded, state)) for state in counted
    }


def test_cancelled_and_discarded(idle_site: Site, recorded: dump.Dump) -> None:
    load(idle_site, recorded, elapsed=10)
    for told in in_state(recorded, "waiting", "parked"):
        assert cancel(told["name"] or told["id"], app=idle_site.app) is True
    store = store_of(idle_site.app)
    [letter] = store.dead_letters()
    assert store.discard(letter)
    [claimed] = in_state(recorded, "claimed")
    assert cancel(claimed["name"], app=idle_site.app) is False
    left = idle_site.stored()
    assert left == {"claimed": 1, "timers": 1, "names": 1, "ids": 1, "claims": 1}


def test_rescheduled_then_fired(site: Site, recorded: dump.Dump) -> None:
    """Generations of this release, with the messages of the older one."""
    load(site, recorded, elapsed=10)
    told = in_state(recorded, "waiting", "parked")
    for timer in told:
        assert reschedule(timer["name"] or timer["id"], seconds=1, app=site.app) is True
    site.expiry()
    _ran_right(site, told)
    store = store_of(site.app)
    assert store.counts() == {"waiting": 0, "parked": 0, "claimed": 1, "dead": 1}


def test_fired(site: Site, recorded: dump.Dump) -> None:
    """All of them: on time, recovered from the dead worker, unparked and retried."""
    dues = load(site, recorded, elapsed=3598)
    store = store_of(site.app)
    [parked] = in_state(recorded, "parked")
    timer = get_timer(parked["name"], app=site.app)
    assert timer is not None
    site.expiry().wait_for(r"recovered 1 timers")
    assert site.redis.pexpire(timer.trigger_key, 500)
    [letter] = store.dead_letters()
    assert store.retry(letter)
    runs = _ran_right(site, recorded["timers"])
    site.wait_forgotten()
    for told in in_state(recorded, "waiting"):
        for run in runs:
            if run["label"] in told["runs"]:
                assert run["at"] * 1000 >= dues[told["label"]], "too early"


def _ran_right(site: Site, timers: Timers) -> list[Run]:
    """Each once, under its task id, with what its message said."""
    wanted = {label: (timer, request) for timer in timers for label, request in timer["runs"].items()}
    eventually(lambda: len(site.runs()) >= len(wanted), timeout=40, what=lambda: f"all ran: {site.runs()}")
    site.wait_broker_empty()
    runs = site.runs()
    assert sorted(run["label"] for run in runs) == sorted(wanted)
    for run in runs:
        timer, request = wanted[run["label"]]
        for field, value in request.items():
            told = run["request"].get(field)
            if told is None:
                told = (run["request"].get("headers") or {}).get(field)
            assert told == value, f"{run['label']}: {field}"
        if len(timer["runs"]) == 1:
            assert run["request"]["id"] == timer["id"]
        if timer["what"].startswith("queue, expires") and run["label"] == "options":
            assert run["request"]["expires"]
    return runs

"""When recurring timers are due: pure computation, whatever the clock of this machine says."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.recurring import (
    Due,
    Instants,
    NoInstant,
    Plan,
    Recurring,
    State,
    described,
    in_words,
)
from celery_redis_expiry.recurring.instants import COUNTED
from celery_redis_expiry.timer import Stored, Undecodable

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def app_in(zone: str = "UTC") -> Celery:
    app = Celery("recurring", set_as_current=False)
    app.conf.timezone = zone
    return app


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def instants(every: Any, zone: str = "UTC") -> Instants:
    return Instants(described(every), app_in(zone))


def after(every: Any, start: str, count: int, zone: str) -> list[str]:
    """The next instants, as a clock on the wall there shows them."""
    each, found, moment = instants(every, zone), [], ms(start)
    for _ in range(count):
        moment = each.after(moment)
        found.append(datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).isoformat())
    return found


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("every", "start", "expected"),
    [
        # forward, 2026-03-29: what is for a time that there is not comes when the clocks have jumped over it
        (
            crontab(hour=2, minute=30),
            "2026-03-28T12:00+01:00",
            ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            crontab(minute="*/30"),
            "2026-03-29T01:00+01:00",
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
        ),
        (
            crontab(hour=4, minute=0),
            "2026-03-28T12:00+01:00",
            ["2026-03-29T04:00:00+02:00", "2026-03-30T04:00:00+02:00"],
        ),
        # back, 2026-10-25: what is for an hour comes in the first of the two, what is for every hour in both
        (
            crontab(hour=2, minute=30),
            "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            crontab(minute="*/30"),
            "2026-10-25T02:00+02:00",
            [
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
        ),
        (
            crontab(minute=0),
            "2026-10-25T01:30+02:00",
            [
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
        ),
        (
            crontab(hour="2,3", minute="*/30"),
            "2026-10-25T02:10+01:00",
            ["2026-10-25T03:00:00+01:00", "2026-10-25T03:30:00+01:00"],
        ),
        # an interval knows no clocks on walls
        (
            timedelta(days=1),
            "2026-10-24T12:00+02:00",
            ["2026-10-25T11:00:00+01:00", "2026-10-26T11:00:00+01:00"],
        ),
    ],
)
def test_when_the_clocks_change(every: Any, start: str, expected: list[str]) -> None:
    assert after(every, start, len(expected), BERLIN) == expected


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("every", [crontab(), crontab(minute="*/20"), crontab(minute=0, hour="*/6")])
def test_a_year_never_stands_still_or_leaps(zone: str, every: crontab) -> None:
    """Around both changes: always on, and no gap but that of the clocks."""
    each = instants(every, zone)
    longest = {1440: MINUTE, 72: 20 * MINUTE, 4: 6 * HOUR}[len(every.minute) * len(every.hour)]
    for start in ("2026-03-07T12:00Z", "2026-03-28T12:00Z", "2026-04-04T00:00Z", "2026-10-24T12:00Z"):
        moment = ms(start.replace("Z", "+00:00"))
        end = moment + 36 * HOUR
        while moment < end:
            found = each.after(moment)
            # what is for certain hours waits for them to be shown; Lord Howe's clocks change by half an hour
            slack = HOUR if len(every.hour) < 24 else 10 * MINUTE if "Howe" in zone else 0
            assert 0 < found - moment <= longest + slack
            moment = found


def test_an_interval_counts_from_its_anchor() -> None:
    each = instants(300)
    assert each.after(1000) == 301_000
    assert each.after(1_000_000, anchor=100_000) == 1_000_000 + 300_000 - 0
    assert each.after(1_000_001, anchor=100_000) == 1_300_000
    assert each.after(50_000, anchor=100_000) == 100_000


@pytest.mark.parametrize(
    ("planned", "score", "now", "due"),
    [
        (10 * MINUTE, 10 * MINUTE, 10 * MINUTE + 3, Due(10 * MINUTE, 0, 15 * MINUTE)),
        # before Redis 7 a TTL may be a millisecond off: that is no move, and does not add up
        (10 * MINUTE, 10 * MINUTE + 1, 10 * MINUTE + 3, Due(10 * MINUTE, 0, 15 * MINUTE)),
        # no worker for a while: the latest stands for all, and the next lies ahead
        (10 * MINUTE, 10 * MINUTE, 26 * MINUTE, Due(25 * MINUTE, 3, 30 * MINUTE)),
        (10 * MINUTE, 10 * MINUTE, 15 * MINUTE, Due(15 * MINUTE, 1, 20 * MINUTE)),
        # fired by hand, early: one more, the planned one stays
        (10 * MINUTE, 7 * MINUTE, 7 * MINUTE, Due(7 * MINUTE, 0, 10 * MINUTE)),
        (90 * DAY, 7 * MINUTE, 7 * MINUTE, Due(7 * MINUTE, 0, 90 * DAY)),
        # put off: in place of those that it passed, which were not missed
        (10 * MINUTE, 22 * MINUTE, 22 * MINUTE + 1, Due(22 * MINUTE, 0, 25 * MINUTE)),
    ],
)
@pytest.mark.parametrize("every", [300, crontab(minute="*/5")])
def test_what_is_due(every: Any, planned: int, score: int, now: int, due: Due) -> None:
    assert instants(every).due(planned, score, now) == due


def test_missed_instants_of_a_crontab_are_counted_up_to_a_bound() -> None:
    now = 3 * COUNTED * MINUTE + 30_000
    due = instants(crontab()).due(MINUTE, MINUTE, now)
    assert due == Due(now, COUNTED, now + 30_000)


def test_relative_rounds_as_celery_does() -> None:
    every = schedule(timedelta(hours=2), relative=True)
    assert after(every, "2026-05-01T09:41:07+00:00", 2, "UTC") == [
        "2026-05-01T11:00:00+00:00",
        "2026-05-01T13:00:00+00:00",
    ]
    assert after(schedule(timedelta(days=1), relative=True), "2026-10-24T12:00+02:00", 2, BERLIN) == [
        "2026-10-25T00:00:00+02:00",
        "2026-10-26T00:00:00+01:00",
    ]


def test_solar() -> None:
    found = after(solar("sunset", 52.52, 13.405), "2026-06-01T12:00+02:00", 2, BERLIN)
    assert [moment[:13] for moment in found] == ["2026-06-01T21", "2026-06-02T21"]


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (0.5, "every 0.5 seconds"),
        (1, "every second"),
        (90, "every 90 seconds"),
        (timedelta(minutes=5), "every 5 minutes"),
        (timedelta(days=1), "every day"),
        (timedelta(hours=36), "every 36 hours"),
        (schedule(timedelta(hours=2), relative=True), "every 2 hours, on the hour"),
        (schedule(30, relative=True), "every 30 seconds"),
        (crontab(), "crontab * * * * *"),
        (crontab(minute=[30, 0], hour={4}), "crontab 0,30 4 * * *"),
        (crontab(0, 4, day_of_month="1,15", month_of_year="*/2"), "crontab 0 4 1,15 */2 *"),
    ],
)
def test_in_words(every: Any, words: str) -> None:
    assert in_words(described(every)) == words


@pytest.mark.parametrize(
    "every", [crontab(minute=[30, 0], hour={4}), schedule(90, relative=True), timedelta(seconds=1.5)]
)
def test_what_is_stored_is_read_again(every: Any) -> None:
    plan = Plan(described(every), 1000, "beat", "abc")
    state = State(5, 4, "id\n1", 3, 2, 1)
    stored = Stored(
        "an id", {"kind": "message", "task": "t", "body": "{}\n"}, recurring=Recurring(plan, state)
    )
    assert stored.split() is None
    assert Stored.decode(stored.encode()) == stored
    again = Stored.decode(stored.encode()).recurring
    assert again == Recurring(plan, state)


@pytest.mark.parametrize(
    "record",
    [
        b"5:1:x",
        b'5:1:x\n{"every": {"schedule": {}, "bound": 1}}',
        b'5:1:x[1, null, "", 0, 0, 0]\n{}',
        b'5:1:x[1, null, "", 0, 0, 0]\n{"every": []}',
        b'5:1:x[1, null, "", 0, 0, 0]\n{"every": {"schedule": [], "bound": 1}}',
        b'5:1:x[1, null, ""]\n{"every": {"schedule": {}, "bound": 1}}',
        b'5:1:x{}\n{"every": {"schedule": {}, "bound": 1}}',
    ],
)
def test_damaged(record: bytes) -> None:
    with pytest.raises(Undecodable):
        Stored.decode(record)


@pytest.mark.parametrize(
    "told", [{"type": "tide"}, {"type": "crontab"}, {"type": "interval"}, {"type": "interval", "ms": 0}, {}]
)
def test_no_instant(told: dict[str, Any]) -> None:
    with pytest.raises(NoInstant):
        Instants(told, app_in()).after(0)


def test_solar_where_ephem_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ephem", None)
    with pytest.raises(NoInstant, match="ephem"):
        Instants({"type": "solar", "event": "sunset", "lat": 1, "lon": 1}, app_in())


@pytest.mark.parametrize("every", [0.05, -1, float("inf"), 4e9, None, "1h", object()])
def test_no_schedule(every: Any) -> None:
    with pytest.raises(InvalidTimer, match="every must be"):
        described(every)


def test_state() -> None:
    state = State(10)
    fired = state.after(Due(10, 2, 20), "id")
    assert fired == State(20, 10, "id", 1, 2, 0)
    assert fired.without(Due(20, 0, 30)) == State(30, 10, "id", 1, 2, 1)

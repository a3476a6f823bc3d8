"""Celery's schedules as they are stored: what they were made of. Nothing of them is pickled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule, crontab, schedule, solar

from celery_redis_expiry.errors import InvalidTimer

#: The shortest interval, ms: each occurrence is two scripts and a message.
SHORTEST = 100
#: The longest, ms; a hundred years.
LONGEST = 100 * 366 * 86_400_000
#: The fields of a crontab, as `crontab` and its `__reduce__` have them.
FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
#: The same as crontab(5) has them.
IN_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"))


def described(every: Any, argument: str = "every") -> dict[str, Any]:
    """A schedule as it is stored.

    Arguments:
        every: seconds, a timedelta, or one of Celery's own schedules.
        argument: how the caller calls it.

    Raises:
        InvalidTimer: it is nothing that can be kept; says what can.
    """
    kind = type(every)
    if kind is crontab:
        return {"type": "crontab", **dict(zip(FIELDS, map(_spec, every.__reduce__()[1]), strict=True))}
    if kind is solar:
        return {"type": "solar", "event": every.event, "lat": every.lat, "lon": every.lon}
    if kind is schedule:
        interval = _interval(every.run_every, argument)
        # below a minute Celery rounds nothing
        return {**interval, "relative": True} if every.relative and interval["ms"] >= 60_000 else interval
    if isinstance(every, BaseSchedule):
        raise InvalidTimer(
            f"{argument} is a {kind.__name__}: the expiry worker runs no code of users' own, so a schedule "
            "of your own can't be kept. Take crontab, solar or schedule of celery.schedules, or have the "
            "task schedule itself anew"
        )
    return _interval(every, argument)


def made(told: Mapping[str, Any], app: Any, now: Callable[[], datetime]) -> BaseSchedule:
    """Celery's schedule for what is stored of one.

    Arguments:
        app: whose time zone is meant.
        now: what the schedule is to take for the present.

    Raises:
        Exception: whatever Celery raises where it can't be made here, as `solar` without ephem.
    """
    if told["type"] == "crontab":
        return crontab(**{name: told[name] for name in FIELDS}, nowfun=now, app=app)
    if told["type"] == "solar":
        return solar(told["event"], told["lat"], told["lon"], nowfun=now, app=app)
    if told["type"] != "interval":
        raise ValueError(f"this release knows no schedule of the type {told['type']!r}: upgrade")
    return schedule(timedelta(milliseconds=told["ms"]), bool(told.get("relative")), nowfun=now, app=app)


def in_words(told: Mapping[str, Any]) -> str:
    """`every 5 minutes`, `crontab 0 4 * * 1`, `sunset at 52.5, 13.4`."""
    if told.get("type") == "crontab":
        return f"crontab {' '.join(str(told.get(name, '*')) for name in IN_CRONTAB)}"
    if told.get("type") == "solar":
        return f"{told.get('event')} at {told.get('lat')}, {told.get('lon')}"
    ms = told.get("ms")
    if told.get("type") != "interval" or not isinstance(ms, int):
        return "?"
    size, unit = next(((size, unit) for size, unit in UNITS if ms % size == 0), (1000, "second"))
    number = ms / size
    text = f"every {unit}" if number == 1 else f"every {number:g} {unit}s"
    return f"{text}, on the {unit}" if told.get("relative") else text


def _spec(field: Any) -> str:
    """A field of a crontab as text: Celery also takes a number, or several."""
    if isinstance(field, Iterable) and not isinstance(field, str):
        return ",".join(map(str, sorted(field)))
    return str(field)


def _interval(every: Any, argument: str) -> dict[str, Any]:
    if isinstance(every, timedelta):
        every = every.total_seconds()
    if isinstance(every, bool) or not isinstance(every, int | float):
        raise InvalidTimer(
            f"{argument} must be seconds, a timedelta, or a crontab, solar or schedule of celery.schedules, "
            f"not {type(every).__name__}"
        )
    ms = round(every * 1000) if math.isfinite(every) else -1
    if not SHORTEST <= ms <= LONGEST:
        raise InvalidTimer(f"{argument} must be from {SHORTEST / 1000:g} seconds to 100 years, not {every}")
    return {"type": "interval", "ms": ms}

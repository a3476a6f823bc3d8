"""The instants of a schedule, in the time zone of the app, and which of them a timer that is due stands for.

Celery's own classes say when the next one is, asked as if it were another time than it is: the only clock is
Redis's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from celery.schedules import crontab

from celery_redis_expiry.recurring.schedules import made

#: How many missed instants of a schedule that is no plain interval are counted, one by one.
COUNTED = 1000
#: For how many minutes at most clocks show what they have shown before.
AMBIGUOUS = 181


class NoInstant(ValueError):
    """The schedule has no further instant, or none can be found here."""


class Due(NamedTuple):
    """What a recurring timer that is due stands for, ms since the epoch.

    Attributes:
        instant: the latest instant that has come: the occurrence's due time.
        missed: how many came before it, and fire no more. Of a schedule that is no plain interval no more
            than `COUNTED` are counted.
        next: the first instant that has not come.
    """

    instant: int
    missed: int
    next: int


class Instants:
    """The instants of a stored schedule.

    Arguments:
        told: see `schedules.described`.
        app: whose time zone is meant.

    Raises:
        NoInstant: its schedule can't be made here; says why.
    """

    def __init__(self, told: Mapping[str, Any], app: Any) -> None:
        self._told = told
        self._zone = app.timezone
        self._now = datetime.fromtimestamp(0, timezone.utc)
        self._every = 0
        try:
            if told["type"] == "interval" and not told.get("relative"):
                self._every = int(told["ms"])
            self._schedule = made(told, app, lambda: self._now)
        except Exception as exc:
            raise NoInstant(f"its schedule can't be read here: {exc}") from exc

    def after(self, moment: int, anchor: int | None = None) -> int:
        """The first instant after a moment, ms since the epoch.

        Arguments:
            anchor: an instant: what a plain interval counts from. Default: the moment itself.

        Raises:
            NoInstant: there is none.
        """
        if self._every:
            anchor = moment if anchor is None else anchor
            return anchor + ((moment - anchor) // self._every + 1) * self._every
        try:
            found = self._after(moment)
        except Exception as exc:
            raise NoInstant(f"its schedule has no next instant: {exc}") from exc
        if found <= moment:
            raise NoInstant("its schedule stands still")
        return found

    def due(self, planned: int, score: int, now: int) -> Due:
        """What a timer stands for that is due.

        Arguments:
            planned: the instant that it was armed for.
            score: when it fell due. Earlier or later than planned where somebody moved it: it then fires at
                that time in place of the instants up to it, and the schedule stays.
            now: on Redis's clock.

        Raises:
            NoInstant: there is no next one.
        """
        if abs(score - planned) > MOVED:
            passed = max(now, score)
            return Due(score, 0, planned if planned > passed else self.after(passed, planned))
        if self._every:
            missed = max(0, now - planned) // self._every
            last = planned + missed * self._every
            return Due(last, missed, last + self._every)
        missed, last, upcoming = 0, planned, self.after(planned)
        while upcoming <= now:
            if missed == COUNTED:
                return Due(now, missed, self.after(now))
            missed, last, upcoming = missed + 1, upcoming, self.after(upcoming)
        return Due(last, missed, upcoming)

    def _asked(self, moment: datetime) -> int:
        """The next instant after a moment as Celery says."""
        self._now = moment
        self._schedule.tz = moment.tzinfo
        left: timedelta = self._schedule.remaining_estimate(moment)
        return round((moment.timestamp() + left.total_seconds()) * 1000)

    def _after(self, moment: int) -> int:
        if not isinstance(self._schedule, crontab):
            return self._asked(datetime.fromtimestamp(moment / 1000, self._zone))
        if len(self._schedule.hour) == 24:
            return self._at_every_hour(moment)
        for minute in range(AMBIGUOUS):
            found = self._asked(datetime.fromtimestamp((moment + minute * 60_000) / 1000, self._zone))
            # in an hour that is shown for the second time Celery goes back to the first
            if found > moment:
                break
        return found

    def _at_every_hour(self, moment: int) -> int:
        """The next instant of a crontab for every hour, so also for one that clocks show twice.

        Celery reckons by what the clocks show, and would leave that out.
        """
        old = self._offset(moment)
        # by clocks that do not change
        found = self._asked(datetime.fromtimestamp(moment / 1000, timezone(old)))
        if self._offset(found) == old:
            return found
        change, same = found, moment
        while change - same > 1:
            middle = (change + same) // 2
            same, change = (middle, change) if self._offset(middle) == old else (same, middle)
        return self._asked(datetime.fromtimestamp((change - 1) / 1000, timezone(self._offset(change))))

    def _offset(self, moment: int) -> timedelta:
        return datetime.fromtimestamp(moment / 1000, self._zone).utcoffset() or timedelta()


#: How far from its instant, ms, a timer may lie that nobody moved: before Redis 7 the clock goes on in a
#: script, and a TTL that is read there may be off by so much.
MOVED = 2

"""The results that scheduling returns: Celery's own, and what a timer adds to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from celery.result import AsyncResult, GroupResult

from celery_redis_expiry.arguments import checked_when
from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import cancel_timer, move_timer
from celery_redis_expiry.messages import Prepared, WaitingGroupResult
from celery_redis_expiry.store import calls_of
from celery_redis_expiry.timer import Timer


class _Timed:
    """What every scheduled result can do. Each asks Redis: a timer may be moved by anybody."""

    id: str
    app: Any

    @property
    def _target(self) -> dict[str, Any]:
        """Which timer it is, for calls that look one up."""
        return {"target": self.id, "by_name": False}

    @property
    def timer(self) -> Timer | None:
        """The timer, or None once it fired or was cancelled."""
        return run(calls_of(self.app).get(**self._target))

    @property
    def due(self) -> datetime | None:
        """When it fires, aware, UTC; None once fired or cancelled, or while parked."""
        timer = self.timer
        return timer.due if timer else None

    @property
    def remaining(self) -> float | None:
        """Seconds until it fires; None once fired or cancelled, or while parked."""
        timer = self.timer
        return timer.remaining if timer else None

    def cancel(self) -> bool:
        """Forget the timer: True if it was waiting and will not fire."""
        return run(cancel_timer(calls_of(self.app), self.app, **self._target))

    def reschedule(self, seconds: float | timedelta | None = None, *, at: datetime | None = None) -> bool:
        """Give the timer another due time: True if it was there. See `reschedule`."""
        when = checked_when(seconds, at, self.app)
        return run(move_timer(calls_of(self.app), self.app, when=when, **self._target))


class ScheduledResult(_Timed, AsyncResult):
    """An AsyncResult of a task that a timer will send: `get()` waits until it fired and ran."""


class ScheduledGroupResult(_Timed, WaitingGroupResult):
    """A GroupResult of a group that a timer will apply."""

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Cancel the timer, and revoke the members in case they were sent. See `GroupResult.revoke`."""
        # a group that waits goes by its own id, which Celery's revoke leaves out
        self.app.control.revoke(
            [self.id, *(result.id for result in self.results)],
            connection=connection,
            terminate=terminate,
            signal=signal,
            reply=wait,
            timeout=timeout,
        )


class RecurringTimer(_Timed):
    """A timer that fires again and again, as `schedule_on_expiry(…, every=…)` returns it.

    Its due time is that of the next occurrence, and that is what `reschedule` moves: the schedule stays.
    `cancel` ends it; an occurrence that is being published is published.

    Attributes:
        id: of the timer. No task runs under it: each occurrence has a task id of its own.
        name: the user's name for it (`key=`), or None.
        app: the Celery app.
    """

    def __init__(self, id: str, name: str | None, app: Any) -> None:
        self.id = id
        self.name = name
        self.app = app

    def __repr__(self) -> str:
        return f"<RecurringTimer: {self.label}>"

    @property
    def label(self) -> str:
        """Its name, else its id: what cancel, reschedule and get_timer take."""
        return self.name or self.id

    @property
    def _target(self) -> dict[str, Any]:
        return {"target": self.label, "by_name": True}


def scheduled(prepared: Prepared, app: Any, id: str) -> ScheduledResult | ScheduledGroupResult:
    """The result of a timer.

    Arguments:
        id: the task id of the timer that has the name now: an older one's with `if_exists` keep or extend.
    """
    result = prepared.result
    if id != prepared.stored.id:
        return ScheduledResult(id, app=app)
    if isinstance(result, GroupResult):
        # a barrier of its own would subscribe to every member
        return ScheduledGroupResult(
            result.id, result.results, parent=result.parent, app=app, ready_barrier=result._on_full
        )
    timed = ScheduledResult(id, parent=result and result.parent, app=app)
    timed.ignored = prepared.ignored
    return timed

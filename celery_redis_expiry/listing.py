"""What waits and what could not be published, listed: any number of them, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from celery_redis_expiry.arguments import app_of
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.selection import STATES, Selection
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import LATEST, DeadLetter, Timer

#: How many dead letters are read in one round trip.
PAGE = 100


def iter_timers(
    *,
    task: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    due_from: datetime | None = None,
    due_until: datetime | None = None,
    states: Sequence[str] = ("waiting", "parked"),
    page: int = PAGE,
    app: Any = None,
) -> Iterator[Timer]:
    """The timers as they are now: what is being published, what waits, soonest first, what is parked.

    They are read page by page while they are taken, without holding Redis up: what changes meanwhile may be
    listed as it was. A range of due times is looked up in the index, the other filters look at every timer.

    Arguments:
        task: a pattern for the name of the task, such as `referrals.*`; see `fnmatch`.
        name: a pattern for the name of the timer (`key=`). One without a name goes by its task id.
        queue: the queue, exactly.
        due_from, due_until: aware datetimes, or naive ones in `app.timezone`; both included. Timers without
            one are left out.
        states: any of `waiting`, `parked` and `claimed`.
        page: how many are read in one round trip.
        app: the Celery app; default: the current one.

    Raises:
        InvalidTimer: an argument is unusable.
        NotConfigured: no Redis is configured, or a setting is unusable.
        StoreUnavailable: Redis can't be reached or refuses, also while they are taken.
    """
    unknown = set(states) - set(STATES)
    if unknown or isinstance(states, str):
        raise InvalidTimer(f"states must be some of {', '.join(STATES)}, not {states!r}")
    app = app_of(app)
    if runs_at_once(app):
        return iter(())
    selection = Selection(
        task, name, queue, _ms(due_from, 0, app), _ms(due_until, LATEST, app), tuple(states)
    )
    store = store_of(app)
    return (
        timer
        for state in STATES
        if state in states
        for _, timer in store.listed(state, selection, page=page)
        if selection.takes(timer)
    )


def _ms(moment: datetime | None, default: int, app: Any) -> int:
    if moment is None:
        return default
    if not isinstance(moment, datetime):
        raise InvalidTimer(f"due_from and due_until must be datetimes, not {type(moment).__name__}")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=app.timezone)
    return round(moment.timestamp() * 1000)


def iter_dead_letters(*, page: int = PAGE, app: Any = None) -> Iterator[DeadLetter]:
    """The timers that could not be published, newest first, each with its reason.

    Arguments:
        page: how many are read in one round trip.
        app: the Celery app; default: the current one.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
        StoreUnavailable: Redis can't be reached or refuses, also while they are taken.
    """
    app = app_of(app)
    if runs_at_once(app):
        return
    yield from store_of(app).all_dead_letters(page=page)

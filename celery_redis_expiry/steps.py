"""The steps of users' calls for one timer: schedule, cancel, reschedule, look up. See `blocking`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from celery_redis_expiry.arguments import Asked, checked_when, target_of
from celery_redis_expiry.changing import cancel_timer, move_timer
from celery_redis_expiry.conf import setting
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.messages import Prepared, prepare, print_of, recurring_content
from celery_redis_expiry.recurring import Instants, NoInstant, Plan, Recurring, State
from celery_redis_expiry.results import RecurringTimer, ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Calls
from celery_redis_expiry.timer import Request, Stored, Timer
from celery_redis_expiry.watched_key import due_of_key

#: What tells the faces apart: how they come to the store of an app.
CallsOf = Callable[[Any], Calls]


async def schedule(
    calls_of: CallsOf, asked: Asked
) -> ScheduledResult | ScheduledGroupResult | RecurringTimer:
    """See `schedule_on_expiry`."""
    app = asked.app
    if runs_at_once(app):
        eager: ScheduledResult = asked.signature.apply_async()
        return eager
    calls = calls_of(app)
    await calls.link.turn()
    prepared = ready(asked, may_block=not calls.link.awaited)
    return result_of(prepared, asked, await put(calls, asked, prepared))


def ready(asked: Asked, *, may_block: bool = True) -> Prepared:
    """What is to be stored. See `prepare`."""
    prepared = prepare(asked.signature, asked.app, may_block=may_block)
    if asked.every is not None:
        prepared.stored = Stored(prepared.stored.id, recurring_content(prepared, asked.signature))
    return prepared


def result_of(
    prepared: Prepared, asked: Asked, id: str
) -> ScheduledResult | ScheduledGroupResult | RecurringTimer:
    """What the caller gets.

    Arguments:
        id: the task id of the timer that has the name now.
    """
    if asked.every is not None:
        return RecurringTimer(id, asked.name, asked.app)
    return scheduled(prepared, asked.app, id)


async def put(calls: Calls, asked: Asked, prepared: Prepared) -> str:
    """Store what was prepared; the task id of the timer that has the name now."""
    app = asked.app
    if asked.watched is not None:
        key_timer = {"key": asked.watched, "due": await due_of_key(calls, app, asked.watched)}
        prepared.stored = Stored(prepared.stored.id, {**prepared.stored.content, "watch": key_timer})
    if asked.every is not None:
        return await put_recurring(calls, asked, prepared)
    [outcome] = await calls.schedule([request_of(prepared, asked)])
    outcome.raise_for_status()
    if asked.watched is not None:
        await calls.tell_of_key_timer(outcome)
    if setting(app, "task_send_sent_event"):
        await calls.link.aside(publish_scheduled, app, [(prepared, outcome)])
    return outcome.id


async def put_recurring(
    calls: Calls, asked: Asked, prepared: Prepared, owner: str = "", only: str | None = None
) -> str:
    """Store a recurring timer; the id of that which has the name now.

    Arguments:
        owner: see `Plan`.
        only: see `timer.Request`; "" is returned where another was kept.
    """
    assert asked.every is not None
    content, bound = prepared.stored.content, bound_of(asked)
    plan = Plan(asked.every, bound, owner, print_of(content, asked.every, bound) if owner else "")
    when = asked.when
    if not when.startswith("="):
        # one clock: that of the server that will fire it
        now = await calls.clock(asked.name or prepared.stored.id)
        try:
            first = now + int(when) if when else Instants(asked.every, asked.app).after(now)
        except NoInstant as exc:
            raise InvalidTimer(f"every: {exc}") from exc
        when = f"={first}"
    state = State(int(when[1:]))
    prepared.stored = Stored(prepared.stored.id, content, recurring=Recurring(plan, state))
    request = request_of(prepared, asked._replace(when=when))
    [outcome] = await calls.schedule([request._replace(only=only)])
    outcome.raise_for_status()
    return outcome.id


def bound_of(asked: Asked) -> int | None:
    """See `Plan`."""
    if asked.overlap is True:
        return None
    if asked.overlap is None:
        return round(Settings.of(asked.app).overlap_timeout * 1000)
    return asked.overlap


def request_of(prepared: Prepared, asked: Asked) -> Request:
    """What the store is asked for."""
    stored = prepared.stored
    if asked.guard is not None:
        stored = Stored(stored.id, stored.content, asked.guard)
    # a name that is the task id says nothing more than the task id does
    name = asked.name if asked.name != stored.id else None
    return Request(stored, asked.when, asked.mode, name, stored.id, asked.max_wait)


async def cancel(calls_of: CallsOf, target: Any, app: Any) -> bool:
    """See `scheduling.cancel`."""
    label, app, by_name = target_of(target, app)
    if runs_at_once(app):
        return False
    return await cancel_timer(calls_of(app), app, label, by_name=by_name)


async def reschedule(
    calls_of: CallsOf, target: Any, seconds: float | timedelta | None, at: datetime | None, app: Any
) -> bool:
    """See `scheduling.reschedule`."""
    label, app, by_name = target_of(target, app)
    when = checked_when(seconds, at, app)
    if runs_at_once(app):
        return False
    return await move_timer(calls_of(app), app, label, when, by_name=by_name)


async def get_timer(calls_of: CallsOf, target: Any, app: Any) -> Timer | None:
    """See `scheduling.get_timer`."""
    label, app, by_name = target_of(target, app)
    return None if runs_at_once(app) else await calls_of(app).get(label, by_name=by_name)

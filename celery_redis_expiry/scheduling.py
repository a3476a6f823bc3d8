"""What users call for one timer: schedule, cancel, reschedule, look up."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Literal, overload

from celery.canvas import Signature
from celery.schedules import BaseSchedule

from celery_redis_expiry import steps
from celery_redis_expiry.arguments import Asked, checked
from celery_redis_expiry.blocking import run
from celery_redis_expiry.committing import at_commit, checked_on_commit, sooner
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.results import RecurringTimer, ScheduledGroupResult, ScheduledResult
from celery_redis_expiry.store import calls_of
from celery_redis_expiry.timer import Timer


@overload
def schedule_on_expiry(
    signature: Signature,
    seconds: float | timedelta | None = ...,
    *,
    at: datetime | None = ...,
    key: str | None = ...,
    if_exists: str = ...,
    max_wait: float | timedelta | None = ...,
    unless_exists: str | Collection[str] | None = ...,
    only_if_exists: str | Collection[str] | None = ...,
    watch: str | bytes | None = ...,
    every: None = ...,
    overlap: Literal[False] = ...,
    on_commit: bool | str = ...,
    app: Any = ...,
) -> ScheduledResult | ScheduledGroupResult: ...
@overload
def schedule_on_expiry(
    signature: Signature,
    seconds: float | timedelta | None = ...,
    *,
    at: datetime | None = ...,
    key: str | None = ...,
    if_exists: str = ...,
    every: float | timedelta | BaseSchedule,
    overlap: bool | float | timedelta = ...,
    on_commit: bool | str = ...,
    app: Any = ...,
) -> RecurringTimer: ...
def schedule_on_expiry(
    signature: Signature,
    seconds: float | timedelta | None = None,
    *,
    at: datetime | None = None,
    key: str | None = None,
    if_exists: str = "replace",
    max_wait: float | timedelta | None = None,
    unless_exists: str | Collection[str] | None = None,
    only_if_exists: str | Collection[str] | None = None,
    watch: str | bytes | None = None,
    every: float | timedelta | BaseSchedule | None = None,
    overlap: bool | float | timedelta = False,
    on_commit: bool | str = False,
    app: Any = None,
) -> ScheduledResult | ScheduledGroupResult | RecurringTimer:
    """Keep a signature in Redis and enqueue it when its trigger key expires.

    Arguments:
        signature: `task.s(…)`, or a chain, group, chord or chunks.
        seconds: the delay in seconds, or a timedelta; 0 fires at once.
        at: instead of `seconds`: when to fire; a naive datetime is in `app.timezone`. One that has passed
            fires at once.
        key: a name of your own for the timer, at most 256 characters and none of them a control
            character, such as `referral:42`.
        if_exists: what to do when a timer of this name waits already: `replace` it (the default), `keep` it,
            `extend` it (its signature, the new time), or `raise`.
        max_wait: with `key` and `seconds`: each call starts the seconds again, but the timer fires no later
            than so many seconds (or a timedelta) after the first of them.
        unless_exists: a key of your own in the timers' Redis, or several: when the timer is due and any of
            them exists, it is dropped as if it had been cancelled, and nothing is sent.
        only_if_exists: the same when any of them does not exist.
        watch: instead of `seconds`: a key of your own (where `expiry_watch_url` says); the timer fires when
            that expires, whoever extends it meanwhile. A key that is not there, has no TTL or is deleted is
            waited for, until one of this name expires.
        every: fire again and again: seconds, a timedelta, or a `crontab`, `solar` or `schedule` of
            `celery.schedules`, in `app.timezone`. `seconds` or `at` then say when it fires first; default: at
            the first instant of the schedule. Each occurrence has a task id of its own.
        overlap: of a recurring timer: whether an occurrence may fire while the task of the one before still
            waits or runs; or, in seconds or as a timedelta, for how long it is skipped for that. False: for
            as long as `expiry_overlap_timeout` says.
        on_commit: with Django: store the timer when the open transaction commits, of the default database, or
            of that with this alias; without an open one at once. `seconds` count from the call.
        app: the Celery app; default: the signature's.

    Returns:
        A result whose `id` is the task id that the task will run under. From here on (with `on_commit` from
        the commit on) the timer survives the death of any process of ours. With `task_always_eager` the
        signature runs at once, as it does with `countdown`, and Celery's EagerResult is returned. With
        `every` a RecurringTimer, which can be asked, moved and cancelled: no task runs under its own id.

    Raises:
        InvalidTimer: an argument is unusable; nothing was stored.
        TimerExists: `if_exists="raise"`, or a timer with the signature's own task id waits already.
        NotConfigured: no Redis is configured, or a setting is unusable.
        NamespaceTaken: the namespace is another app's.
        StoreFull: Redis is at its maxmemory; nothing was stored.
        StoreUnavailable: Redis can't be reached or refuses; where the reply was lost for good, the timer may
            be stored all the same.
        With `on_commit` an unusable argument or setting is raised by the call, all else by what commits.
    """
    began = time.monotonic()
    asked = checked(
        signature,
        seconds,
        at=at,
        key=key,
        if_exists=if_exists,
        max_wait=max_wait,
        unless_exists=unless_exists,
        only_if_exists=only_if_exists,
        watch=watch,
        every=every,
        overlap=overlap,
        app=app,
    )
    connection = checked_on_commit(on_commit)
    if connection is None:
        return run(steps.schedule(calls_of, asked))
    if runs_at_once(asked.app):
        return _run_at_commit(asked.signature, connection)
    return _schedule_at_commit(asked, connection, began)


def _schedule_at_commit(
    asked: Asked, connection: Any, began: float
) -> ScheduledResult | ScheduledGroupResult | RecurringTimer:
    """Prepare it now and store it at commit.

    Arguments:
        began: when the call did, on this process's monotonic clock.
    """
    calls = calls_of(asked.app)
    prepared = steps.ready(asked)
    id = prepared.stored.id

    def put() -> str:
        when = sooner(asked.when, time.monotonic() - began)
        return run(steps.put(calls, asked._replace(when=when), prepared))

    stored = at_commit(connection, put, asked.name or id, id) or id
    return steps.result_of(prepared, asked, stored)


def _run_at_commit(signature: Signature, connection: Any) -> ScheduledResult:
    """Run it at commit (`task_always_eager`); a result that comes later has the id it will have."""
    signature = signature.clone()
    eager: ScheduledResult = signature.freeze()
    return at_commit(connection, signature.apply_async, eager.id, eager.id) or eager


def cancel(target: Any, *, app: Any = None) -> bool:
    """Forget a waiting timer.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.

    Returns:
        True if it was waiting and will not fire; False if there is none, or its message is being published.
    """
    return run(steps.cancel(calls_of, target, app))


def reschedule(
    target: Any,
    seconds: float | timedelta | None = None,
    *,
    at: datetime | None = None,
    app: Any = None,
) -> bool:
    """Give a timer another due time; its signature and task id stay.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        seconds, at: as for `schedule_on_expiry`.
        app: the Celery app; default: the result's, else the current one.

    Returns:
        True if it waits for the new time; False if there is no such timer. One whose message is being
        published right now is published, and fires once more at the new time.
    """
    return run(steps.reschedule(calls_of, target, seconds, at, app))


def get_timer(target: Any, *, app: Any = None) -> Timer | None:
    """The timer as it is now; None if none waits: it fired, was cancelled, never was, or is a dead letter.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.
    """
    return run(steps.get_timer(calls_of, target, app))

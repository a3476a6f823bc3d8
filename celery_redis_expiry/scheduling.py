"""What users call for one timer: schedule, cancel, reschedule, look up."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from celery.canvas import Signature

from celery_redis_expiry.arguments import (
    app_of,
    checked_choice,
    checked_guard,
    checked_max_wait,
    checked_name,
    checked_signature,
    checked_watch,
    checked_when,
    target_of,
)
from celery_redis_expiry.changing import cancel_timer, move_timer
from celery_redis_expiry.committing import at_commit, checked_on_commit, sooner
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.guard import Guard
from celery_redis_expiry.messages import Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import LATEST, Request, Stored, Timer
from celery_redis_expiry.watched_key import due_of_key

#: When a timer is due that waits for a key, and not for a time.
NEVER = f"={LATEST}"


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
    on_commit: bool | str = False,
    app: Any = None,
) -> ScheduledResult | ScheduledGroupResult:
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
        on_commit: with Django: store the timer when the open transaction commits, of the default database, or
            of that with this alias; without an open one at once. `seconds` count from the call.
        app: the Celery app; default: the signature's.

    Returns:
        A result whose `id` is the task id that the task will run under. From here on (with `on_commit` from
        the commit on) the timer survives the death of any process of ours. With `task_always_eager` the
        signature runs at once, as it does with `countdown`, and Celery's EagerResult is returned.

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
    signature = checked_signature(signature)
    app = app_of(app, signature)
    checked_choice(if_exists)
    watched = checked_watch(watch, seconds, at, if_exists)
    when = checked_when(seconds, at, app) if watched is None else NEVER
    name = checked_name(key)
    bound = checked_max_wait(max_wait, when, name)
    guard = checked_guard(unless_exists, only_if_exists)
    connection = checked_on_commit(on_commit)
    if app.conf.task_always_eager:
        return _run_eagerly(signature, connection)
    store = store_of(app)
    prepared = prepare(signature, app)

    def put(when: str) -> str:
        if watched is not None:
            key_timer = {"key": watched, "due": due_of_key(app, watched)}
            prepared.stored = Stored(prepared.stored.id, {**prepared.stored.content, "watch": key_timer})
        request = request_of(prepared, when, if_exists, name, bound, guard)
        [outcome] = store.schedule([request])
        outcome.raise_for_status()
        if watched is not None:
            store.tell_of_key_timer(outcome)
        publish_scheduled(app, [(prepared, outcome)])
        return outcome.id

    if connection is None:
        return scheduled(prepared, app, put(when))
    id = prepared.stored.id
    later = at_commit(connection, lambda: put(sooner(when, time.monotonic() - began)), name or id, id)
    return scheduled(prepared, app, later or id)


def _run_eagerly(signature: Signature, connection: Any) -> ScheduledResult:
    """Run it now or at commit (`task_always_eager`); a result that comes later has the id it will have."""
    eager: ScheduledResult
    if connection is None:
        eager = signature.apply_async()
        return eager
    signature = signature.clone()
    eager = signature.freeze()
    return at_commit(connection, signature.apply_async, eager.id, eager.id) or eager


def cancel(target: Any, *, app: Any = None) -> bool:
    """Forget a waiting timer.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.

    Returns:
        True if it was waiting and will not fire; False if there is none, or its message is being published.
    """
    label, app, by_name = target_of(target, app)
    return False if app.conf.task_always_eager else cancel_timer(app, label, by_name=by_name)


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
    label, app, by_name = target_of(target, app)
    when = checked_when(seconds, at, app)
    return False if app.conf.task_always_eager else move_timer(app, label, when, by_name=by_name)


def get_timer(target: Any, *, app: Any = None) -> Timer | None:
    """The timer as it is now; None if none waits: it fired, was cancelled, never was, or is a dead letter.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.
    """
    label, app, by_name = target_of(target, app)
    return None if app.conf.task_always_eager else store_of(app).get(label, by_name=by_name)


def request_of(
    prepared: Prepared, when: str, mode: str, name: str | None, max_wait: int | None, guard: Guard | None
) -> Request:
    stored = prepared.stored
    if guard is not None:
        stored = Stored(stored.id, stored.content, guard)
    # a name that is the task id says nothing more than the task id does
    return Request(stored, when, mode, name if name != stored.id else None, stored.id, max_wait)

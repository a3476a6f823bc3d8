"""What users call: schedule, cancel, reschedule, look up."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celery import signature as as_signature
from celery.app import app_or_default
from celery.canvas import Signature

from celery_redis_expiry.errors import ExpiryError, InvalidTimer, StoreUnavailable, TimerExists
from celery_redis_expiry.messages import Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import LATEST, Outcome, Request, Timer, as_datetime

logger = logging.getLogger(__name__)

IF_EXISTS = ("replace", "keep", "extend", "raise")
NAME_LENGTH = 256
#: How many timers one script stores: few enough to hold Redis up for a few milliseconds at most.
BULK = 100


@dataclass(frozen=True)
class BadItem:
    """An item that could not be scheduled: its position (from 0) and the error."""

    position: int
    error: ExpiryError


@dataclass
class ScheduleSummary:
    """What `schedule_many_on_expiry` did.

    Attributes:
        scheduled: how many timers are stored now; those kept by `if_exists="keep"` count.
        errors: the bad items, by position; no other item was harmed.
    """

    scheduled: int = 0
    errors: list[BadItem] = field(default_factory=list)


def schedule_on_expiry(
    signature: Signature,
    seconds: float | timedelta | None = None,
    *,
    at: datetime | None = None,
    key: str | None = None,
    if_exists: str = "replace",
    app: Any = None,
) -> ScheduledResult | ScheduledGroupResult:
    """Keep a signature in Redis and enqueue it when its trigger key expires.

    Arguments:
        signature: `task.s(…)`, or a chain, group, chord or chunks.
        seconds: the delay in seconds, or a timedelta; 0 fires at once.
        at: instead of `seconds`: when to fire; a naive datetime is in `app.timezone`. One that has passed
            fires at once.
        key: a name of your own for the timer, at most 256 characters, such as `referral:42`.
        if_exists: what to do when a timer of this name waits already: `replace` it (the default), `keep` it,
            `extend` it (its signature, the new time), or `raise`.
        app: the Celery app; default: the signature's.

    Returns:
        A result whose `id` is the task id that the task will run under. From here on the timer survives
        the death of any process of ours. With `task_always_eager` the signature runs at once, as it does with
        `countdown`, and Celery's EagerResult is returned.

    Raises:
        InvalidTimer: an argument is unusable; nothing was stored.
        TimerExists: `if_exists="raise"`, or a timer with the signature's own task id waits already.
        NotConfigured: no Redis is configured.
        StoreUnavailable: Redis can't be reached or refuses; where the reply was lost for good, the timer may
            be stored all the same.
    """
    signature = _checked_signature(signature)
    app = app_or_default(app or signature.app)
    when = _checked_when(seconds, at, app)
    _checked_choice(if_exists)
    name = _checked_name(key)
    if app.conf.task_always_eager:
        return signature.apply_async()
    store = store_of(app)
    prepared = prepare(signature, app)
    request = _request(prepared, when, if_exists, name)
    [outcome] = store.schedule([request])
    _raise_for(outcome, request)
    _publish_events(app, [(prepared, outcome)])
    return scheduled(prepared.result, app, outcome.id)


def schedule_many_on_expiry(
    items: Iterable[tuple[Signature, float | timedelta] | Mapping[str, Any]],
    *,
    if_exists: str = "replace",
    on_result: Callable[[int, ScheduledResult | ScheduledGroupResult], Any] | None = None,
    app: Any = None,
) -> ScheduleSummary:
    """Schedule any number of timers, a hundred per round trip, in constant memory.

    Arguments:
        items: (signature, seconds) pairs, or dicts of the arguments of `schedule_on_expiry`.
        if_exists: for the items that don't say their own.
        on_result: called with the position and the result of each scheduled item, in order.
        app: for the items that don't say their own.

    Returns:
        How many are scheduled, and the bad items.

    Raises:
        StoreUnavailable: Redis can't be reached or refuses; its `summary` says what was stored until then.
    """
    _checked_choice(if_exists)
    summary = ScheduleSummary()
    batch = _Batch(summary, on_result)
    try:
        for position, item in enumerate(items):
            try:
                arguments = _arguments(item)
                batch.add(position, {"if_exists": if_exists, "app": app, **arguments})
            except StoreUnavailable:
                raise
            except ExpiryError as exc:
                summary.errors.append(BadItem(position, exc))
        batch.flush()
    except StoreUnavailable as exc:
        exc.summary = summary
        raise
    except BaseException:
        # the iterable failed: what it gave until then is scheduled, as a loop of single calls would have done
        batch.flush()
        raise
    summary.errors.sort(key=lambda bad: bad.position)
    return summary


def cancel(target: Any, *, app: Any = None) -> bool:
    """Forget a waiting timer.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.

    Returns:
        True if it was waiting and will not fire; False if there is none, or its message is being published.
    """
    label, app, by_name = _target(target, app)
    return False if app.conf.task_always_eager else store_of(app).cancel(label, by_name=by_name)


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
    label, app, by_name = _target(target, app)
    when = _checked_when(seconds, at, app)
    if app.conf.task_always_eager:
        return False
    store = store_of(app)
    timer = store.get(label, by_name=by_name)
    if timer is None:
        return False
    request = Request(None, when, "move", timer.name, timer.id)
    [outcome] = store.schedule([request])
    if outcome.status == "late":
        _raise_for(outcome, request)
    return outcome.status != "missing"


def get_timer(target: Any, *, app: Any = None) -> Timer | None:
    """The timer as it is now, or None once its message is in the broker.

    Arguments:
        target: its name, its task id, or the result of scheduling it.
        app: the Celery app; default: the result's, else the current one.
    """
    label, app, by_name = _target(target, app)
    return None if app.conf.task_always_eager else store_of(app).get(label, by_name=by_name)


class _Batch:
    """Items gathered for one script; none of one app waits behind another's, no label stands in it twice."""

    def __init__(self, summary: ScheduleSummary, on_result: Callable[[int, Any], Any] | None) -> None:
        self.summary = summary
        self.on_result = on_result
        self.app: Any = None
        self.items: list[tuple[int, Prepared, Request]] = []
        self.labels: set[str] = set()

    def add(self, position: int, arguments: dict[str, Any]) -> None:
        signature = _checked_signature(arguments["signature"])
        app = app_or_default(arguments["app"] or signature.app)
        when = _checked_when(arguments.get("seconds"), arguments.get("at"), app)
        _checked_choice(arguments["if_exists"])
        name = _checked_name(arguments.get("key"))
        if app.conf.task_always_eager:
            self.flush()
            result = signature.apply_async()
            self.summary.scheduled += 1
            if self.on_result is not None:
                self.on_result(position, result)
            return
        prepared = prepare(signature, app)
        request = _request(prepared, when, arguments["if_exists"], name)
        labels = {request.label, request.id}
        if self.items and (app is not self.app or labels & self.labels):
            self.flush()
        self.app = app
        self.items.append((position, prepared, request))
        self.labels |= labels
        if len(self.items) >= BULK:
            self.flush()

    def flush(self) -> None:
        items, self.items, self.labels = self.items, [], set()
        if not items:
            return
        outcomes = store_of(self.app).schedule([request for _, _, request in items])
        stored = []
        for (position, prepared, request), outcome in zip(items, outcomes, strict=True):
            try:
                _raise_for(outcome, request)
            except ExpiryError as exc:
                self.summary.errors.append(BadItem(position, exc))
                continue
            self.summary.scheduled += 1
            stored.append((prepared, outcome))
            if self.on_result is not None:
                self.on_result(position, scheduled(prepared.result, self.app, outcome.id))
        _publish_events(self.app, stored)


def _arguments(item: Any) -> dict[str, Any]:
    """The arguments of `schedule_on_expiry` that an item of a bulk stands for."""
    if isinstance(item, Mapping) and not isinstance(item, Signature):
        unknown = set(item) - {"signature", "seconds", "at", "key", "if_exists", "app"}
        if unknown or "signature" not in item:
            raise InvalidTimer(
                "an item must be a (signature, seconds) pair or a dict of schedule_on_expiry's arguments; "
                + (f"unknown: {', '.join(sorted(map(str, unknown)))}" if unknown else "signature is missing")
            )
        return dict(item)
    if isinstance(item, tuple | list) and len(item) == 2:
        return {"signature": item[0], "seconds": item[1]}
    raise InvalidTimer(f"an item must be a (signature, seconds) pair or a dict, not {type(item).__name__}")


def _request(prepared: Prepared, when: str, mode: str, name: str | None) -> Request:
    # a name that is the task id says nothing more than the task id does
    return Request(
        prepared.stored, when, mode, name if name != prepared.stored.id else None, prepared.stored.id
    )


def _raise_for(outcome: Outcome, request: Request) -> None:
    if outcome.status == "exists":
        raise TimerExists(
            f"a timer {request.name or outcome.id!r} waits already, due {as_datetime(outcome.due).isoformat()}: "
            "reschedule or cancel it, or choose another if_exists (or task id)"
        )
    if outcome.status == "late":
        raise InvalidTimer("the timer would be due after the year 9999: give fewer seconds")


def _publish_events(app: Any, stored: list[tuple[Prepared, Outcome]]) -> None:
    """Send the task-sent events that Celery made, with the due time as their ETA. A monitor's loss at worst."""
    events = [(event, outcome) for prepared, outcome in stored for event in prepared.events]
    if not events:
        return
    try:
        with app.producer_or_acquire() as producer:
            for (body, arguments), outcome in events:
                if isinstance(body, dict) and outcome.status == "scheduled":
                    body["eta"] = as_datetime(outcome.due).isoformat()
                producer.publish(body, **arguments)
    except Exception as exc:
        logger.warning("expiry: task-sent events of scheduled timers were not published: %r", exc)


def _target(target: Any, app: Any) -> tuple[str, Any, bool]:
    """(name or id, app, whether it may be a name) of what a user means."""
    if isinstance(target, str):
        if not target:
            raise InvalidTimer("the name or task id of the timer is empty")
        return target, app_or_default(app), True
    id = getattr(target, "id", None)
    if isinstance(id, str):
        return id, app_or_default(app or getattr(target, "app", None)), False
    raise InvalidTimer(f"give the timer's name, its task id or its result, not {type(target).__name__}")


def _checked_signature(value: Any) -> Signature:
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("task"), str):
        return as_signature(dict(value))
    hint = " (did you mean task.s(…)?)" if hasattr(value, "apply_async") or callable(value) else ""
    raise InvalidTimer(
        f"signature must be a Celery signature such as task.s(42), not {type(value).__name__}{hint}"
    )


def _checked_choice(if_exists: Any) -> None:
    if if_exists not in IF_EXISTS:
        raise InvalidTimer(f"if_exists must be one of {', '.join(IF_EXISTS)}, not {if_exists!r}")


def _checked_name(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not key:
        raise InvalidTimer(f"key must be a name of at least one character, not {key!r}")
    if len(key) > NAME_LENGTH:
        raise InvalidTimer(f"key has {len(key)} characters, at most {NAME_LENGTH} are allowed")
    bad = next((char for char in key if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise InvalidTimer(f"key {key!r} has the control character {bad!r}: leave it out")
    return key


def _checked_when(seconds: Any, at: Any, app: Any) -> str:
    """`+ms` or `=ms`, as the schedule script takes it."""
    if (seconds is None) == (at is None):
        raise InvalidTimer("give either seconds (the delay) or at (the time), and not both")
    if at is not None:
        if not isinstance(at, datetime):
            raise InvalidTimer(f"at must be a datetime, not {type(at).__name__}")
        if at.tzinfo is None:
            at = at.replace(tzinfo=app.timezone)
        try:
            return f"={max(0, math.ceil(at.timestamp() * 1000))}"
        except (OverflowError, ValueError, OSError) as exc:
            raise InvalidTimer(f"at can't be converted to a time: {exc}") from exc
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidTimer(f"seconds must be a number or a timedelta, not {type(seconds).__name__}")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise InvalidTimer(f"seconds must be finite, not {seconds}")
    if seconds < 0:
        raise InvalidTimer(f"seconds must be at least 0 (fires at once), not {seconds}")
    if seconds * 1000 > LATEST:
        raise InvalidTimer(f"seconds={seconds} lies beyond the year 9999: give fewer")
    return f"+{round(seconds * 1000)}"

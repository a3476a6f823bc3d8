"""Many timers in one call: fifty per round trip, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.app import app_or_default
from celery.canvas import Signature

from celery_redis_expiry.arguments import (
    checked_choice,
    checked_name,
    checked_signature,
    checked_when,
    item_arguments,
)
from celery_redis_expiry.errors import ExpiryError, StoreUnavailable
from celery_redis_expiry.messages import Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.scheduling import publish_events, request_of
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Request

#: How many timers one script stores: few enough to hold Redis up for a few milliseconds at most.
BULK = 50


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


def schedule_many_on_expiry(
    items: Iterable[tuple[Signature, float | timedelta] | Mapping[str, Any]],
    *,
    if_exists: str = "replace",
    on_result: Callable[[int, ScheduledResult | ScheduledGroupResult], Any] | None = None,
    app: Any = None,
) -> ScheduleSummary:
    """Schedule any number of timers, fifty per round trip, in constant memory.

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
    checked_choice(if_exists)
    summary = ScheduleSummary()
    batch = _Batch(summary, on_result)
    try:
        for position, item in enumerate(items):
            try:
                arguments = item_arguments(item)
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


class _Batch:
    """Items gathered for one script; none of one app waits behind another's, no label stands in it twice."""

    def __init__(self, summary: ScheduleSummary, on_result: Callable[[int, Any], Any] | None) -> None:
        self.summary = summary
        self.on_result = on_result
        self.app: Any = None
        self.items: list[tuple[int, Prepared, Request]] = []
        self.labels: set[str] = set()

    def add(self, position: int, arguments: dict[str, Any]) -> None:
        signature = checked_signature(arguments["signature"])
        app = app_or_default(arguments["app"] or signature.app)
        when = checked_when(arguments.get("seconds"), arguments.get("at"), app)
        checked_choice(arguments["if_exists"])
        name = checked_name(arguments.get("key"))
        if app.conf.task_always_eager:
            self.flush()
            result = signature.apply_async()
            self.summary.scheduled += 1
            if self.on_result is not None:
                self.on_result(position, result)
            return
        prepared = prepare(signature, app)
        request = request_of(prepared, when, arguments["if_exists"], name)
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
        for (position, prepared, _), outcome in zip(items, outcomes, strict=True):
            try:
                outcome.raise_for_status()
            except ExpiryError as exc:
                self.summary.errors.append(BadItem(position, exc))
                continue
            self.summary.scheduled += 1
            stored.append((prepared, outcome))
            if self.on_result is not None:
                self.on_result(position, scheduled(prepared.result, self.app, outcome.id))
        publish_events(self.app, stored)

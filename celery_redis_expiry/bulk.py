"""Many timers in one call: fifty per round trip, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.canvas import Signature

from celery_redis_expiry.arguments import (
    app_of,
    checked_choice,
    checked_guard,
    checked_max_wait,
    checked_name,
    checked_signature,
    checked_when,
    item_arguments,
)
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.messages import Kinds, Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.scheduling import request_of
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Outcome, Request

#: How many timers one script stores: few enough to hold Redis up for a few milliseconds at most.
BULK = 50
#: How many are gathered for several shards, a script each.
GATHERED = 800


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
        InvalidTimer: `if_exists` is unusable.
        NotConfigured: no Redis is configured.
        StoreUnavailable: Redis can't be reached or refuses.
        NamespaceTaken: the namespace is another app's.
        The last two have a `summary` of what was stored until then.
    """
    checked_choice(if_exists)
    summary = ScheduleSummary()
    batch = _Batch(summary, on_result)
    try:
        for position, item in enumerate(items):
            try:
                prepared = _prepare(item, if_exists, app, batch.kinds)
            except ExpiryError as exc:
                summary.errors.append(BadItem(position, exc))
            else:
                batch.add(position, prepared)
    except ExpiryError as exc:
        exc.summary = summary
        raise
    except BaseException:
        # the iterable failed: what it gave until then is scheduled, as a loop of single calls would have done
        batch.flush()
        raise
    try:
        batch.flush()
    except ExpiryError as exc:
        exc.summary = summary
        raise
    summary.errors.sort(key=lambda bad: bad.position)
    return summary


@dataclass
class _Item:
    """An item that was found good; `request` is None where it ran at once (`task_always_eager`)."""

    app: Any
    prepared: Prepared | None
    request: Request | None
    result: Any = None


def _prepare(item: Any, if_exists: str, app: Any, kinds: dict[Any, Kinds]) -> _Item:
    arguments = {"if_exists": if_exists, "app": app, **item_arguments(item)}
    signature = checked_signature(arguments["signature"])
    app = app_of(arguments["app"], signature)
    when = checked_when(arguments.get("seconds"), arguments.get("at"), app)
    checked_choice(arguments["if_exists"])
    name = checked_name(arguments.get("key"))
    bound = checked_max_wait(arguments.get("max_wait"), when, name)
    guard = checked_guard(arguments.get("unless_exists"), arguments.get("only_if_exists"))
    # settings are read once a batch
    if app not in kinds and app.conf.task_always_eager:
        return _Item(app, None, None, signature.apply_async())
    prepared = prepare(signature, app, kinds)
    return _Item(app, prepared, request_of(prepared, when, arguments["if_exists"], name, bound, guard))


class _Batch:
    """Items gathered for one script: all of one app, no label twice."""

    def __init__(self, summary: ScheduleSummary, on_result: Callable[[int, Any], Any] | None) -> None:
        self.summary = summary
        self.on_result = on_result
        self.items: list[tuple[int, _Item]] = []
        self.labels: set[str] = set()
        self.kinds: dict[Any, Kinds] = {}

    def add(self, position: int, item: _Item) -> None:
        labels = (item.request.label, item.request.id) if item.request else ()
        if self.items and (item.app is not self.items[0][1].app or not self.labels.isdisjoint(labels)):
            self.flush()
        self.items.append((position, item))
        self.labels.update(labels)
        if len(self.items) >= BULK and len(self.items) >= self._room(item):
            self.flush()

    def _room(self, item: _Item) -> int:
        return BULK if item.request is None else min(GATHERED, BULK * len(store_of(item.app).shards))

    def flush(self) -> None:
        items, self.items, self.labels, self.kinds = self.items, [], set(), {}
        if not items:
            return
        app = items[0][1].app
        asked = {i: item.request for i, (_, item) in enumerate(items) if item.request}
        places = list(asked)
        outcomes: dict[int, Outcome] = {}
        try:
            for group, stored in store_of(app).schedule_each(list(asked.values())) if asked else ():
                outcomes.update(zip((places[i] for i in group), stored, strict=True))
        finally:
            # also where an error cut it short: those that are stored are told of
            self._tell(app, items, outcomes)

    def _tell(self, app: Any, items: list[tuple[int, _Item]], outcomes: dict[int, Outcome]) -> None:
        stored = []
        for i, (position, item) in enumerate(items):
            result = item.result
            if item.prepared is not None:
                outcome = outcomes.get(i)
                if outcome is None:
                    continue
                try:
                    outcome.raise_for_status()
                except ExpiryError as exc:
                    self.summary.errors.append(BadItem(position, exc))
                    continue
                stored.append((item.prepared, outcome))
                if self.on_result is not None:
                    result = scheduled(item.prepared, app, outcome.id)
            self.summary.scheduled += 1
            if self.on_result is not None:
                self.on_result(position, result)
        publish_scheduled(app, stored)

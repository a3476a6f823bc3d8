"""Many timers in one call: fifty per round trip, in constant memory."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.canvas import Signature

from celery_redis_expiry.arguments import checked, checked_choice, item_arguments
from celery_redis_expiry.blocking import run
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.messages import Kinds, Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.steps import CallsOf, request_of
from celery_redis_expiry.store import Calls, calls_of
from celery_redis_expiry.timer import Outcome, Request

#: How many timers one script stores: few enough to hold Redis up for a few milliseconds at most.
BULK = 50
#: How many are gathered for several shards, a script each.
GATHERED = 800
_END: Any = object()


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
    return run(schedule_many(calls_of, iter(items), if_exists, on_result, app))


async def schedule_many(
    calls_of: CallsOf,
    items: Iterator[Any] | AsyncIterator[Any],
    if_exists: str,
    on_result: Callable[[int, Any], Any] | None,
    app: Any,
) -> ScheduleSummary:
    """The steps of `schedule_many_on_expiry`."""
    checked_choice(if_exists)
    summary = ScheduleSummary()
    batch = _Batch(summary, on_result)
    position = 0
    try:
        while True:
            item = next(items, _END) if isinstance(items, Iterator) else await anext(items, _END)
            if item is _END:
                break
            try:
                prepared = _prepare(calls_of, item, if_exists, app, batch.kinds)
            except ExpiryError as exc:
                summary.errors.append(BadItem(position, exc))
            else:
                await batch.add(position, prepared)
            position += 1
    except ExpiryError as exc:
        exc.summary = summary
        raise
    except CancelledError:
        # who cancels wants it to end here
        raise
    except BaseException:
        # the iterable failed: what it gave until then is scheduled, as a loop of single calls would have done
        await batch.flush()
        raise
    try:
        await batch.flush()
    except ExpiryError as exc:
        exc.summary = summary
        raise
    summary.errors.sort(key=lambda bad: bad.position)
    return summary


@dataclass
class _Item:
    """An item that was found good; only `result` is there where it ran at once (`task_always_eager`)."""

    app: Any
    calls: Calls | None = None
    prepared: Prepared | None = None
    request: Request | None = None
    result: Any = None


def _prepare(calls_of: CallsOf, item: Any, if_exists: str, app: Any, kinds: dict[Any, Kinds]) -> _Item:
    asked = checked(**{"if_exists": if_exists, "app": app, **item_arguments(item)})
    app = asked.app
    # settings are read once a batch
    if app not in kinds and app.conf.task_always_eager:
        return _Item(app, result=asked.signature.apply_async())
    calls = calls_of(app)
    prepared = prepare(asked.signature, app, kinds, may_block=not calls.link.awaited)
    return _Item(app, calls, prepared, request_of(prepared, asked))


class _Batch:
    """Items gathered for one script: all of one app, no label twice."""

    def __init__(self, summary: ScheduleSummary, on_result: Callable[[int, Any], Any] | None) -> None:
        self.summary = summary
        self.on_result = on_result
        self.items: list[tuple[int, _Item]] = []
        self.labels: set[str] = set()
        self.kinds: dict[Any, Kinds] = {}

    async def add(self, position: int, item: _Item) -> None:
        labels = (item.request.label, item.request.id) if item.request else ()
        if self.items and (item.app is not self.items[0][1].app or not self.labels.isdisjoint(labels)):
            await self.flush()
        self.items.append((position, item))
        self.labels.update(labels)
        if len(self.items) >= BULK and len(self.items) >= await self._room(item):
            await self.flush()

    async def _room(self, item: _Item) -> int:
        return BULK if item.calls is None else min(GATHERED, BULK * len(await item.calls.shards()))

    async def flush(self) -> None:
        items, self.items, self.labels, self.kinds = self.items, [], set(), {}
        if not items:
            return
        calls = items[0][1].calls
        asked = [(i, item.request) for i, (_, item) in enumerate(items) if item.request]
        stored: dict[int, Outcome] = {}
        try:
            if calls is not None:
                await calls.schedule(
                    [request for _, request in asked],
                    lambda positions, outcomes: stored.update(zip(positions, outcomes, strict=True)),
                )
        finally:
            # also where an error cut it short: those that are stored are told of
            told = self._tell(items, {i: stored[n] for n, (i, _) in enumerate(asked) if n in stored})
            if told and calls is not None and items[0][1].app.conf.task_send_sent_event:
                await calls.link.aside(publish_scheduled, items[0][1].app, told)

    def _tell(
        self, items: list[tuple[int, _Item]], outcomes: dict[int, Outcome]
    ) -> list[tuple[Prepared, Outcome]]:
        """Tell the caller; returns what monitors are to be told of."""
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
                    result = scheduled(item.prepared, item.app, outcome.id)
            self.summary.scheduled += 1
            if self.on_result is not None:
                self.on_result(position, result)
        return stored

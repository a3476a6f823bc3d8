"""Many timers in one call: a hundred per round trip, in constant memory."""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.canvas import Signature

from celery_redis_expiry.arguments import checked, checked_choice, item_arguments
from celery_redis_expiry.blocking import run
from celery_redis_expiry.conf import setting
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.messages import Kinds, Prepared, prepare
from celery_redis_expiry.results import ScheduledGroupResult, ScheduledResult, scheduled
from celery_redis_expiry.steps import CallsOf, request_of
from celery_redis_expiry.store import Calls, calls_of
from celery_redis_expiry.timer import Outcome, Request

#: How many timers one script stores: few enough to hold Redis up for a few milliseconds at most.
BULK = 100
#: How many are gathered for several shards, a script each.
GATHERED = 1600
#: Seconds after which the answer to what was sent is read, though the next are not gathered yet.
LATE = 0.02
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
    """Schedule any number of timers, a hundred per round trip, in constant memory.

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
    awaited = None if isinstance(items, Iterator) else items
    try:
        while True:
            try:
                item = next(items, _END) if awaited is None else await anext(awaited, _END)  # type: ignore[arg-type]
            except ExpiryError:
                # of another call, which the iterable made: what it gave until then is scheduled all the same
                await batch.flush()
                batch.end()
                raise
            if item is _END:
                break
            batch.end_if_late()
            try:
                prepared = batch.prepared(calls_of, item, if_exists, app)
            except ExpiryError as exc:
                summary.errors.append(BadItem(position, exc))
            else:
                if batch.clashes(prepared):
                    await batch.flush()
                if batch.add(position, prepared) >= BULK:
                    await batch.flush_full()
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
        batch.end()
        raise
    try:
        await batch.flush()
        batch.end()
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


class _Batch:
    """Items gathered for one script: all of one app, no label twice."""

    def __init__(self, summary: ScheduleSummary, on_result: Callable[[int, Any], Any] | None) -> None:
        self.summary = summary
        self.on_result = on_result
        self.items: list[tuple[int, _Item]] = []
        self.labels: set[str] = set()
        self.kinds: dict[Any, Kinds] = {}
        self.calls: dict[Any, Calls] = {}
        self._end: Callable[[], None] | None = None
        self._late = 0.0

    def prepared(self, calls_of: CallsOf, item: Any, if_exists: str, app: Any) -> _Item:
        asked = checked(**{"if_exists": if_exists, "app": app, **item_arguments(item)})
        app = asked.app
        # settings are read once a batch
        calls = self.calls.get(app)
        if calls is None:
            if runs_at_once(app):
                return _Item(app, result=asked.signature.apply_async())
            calls = self.calls[app] = calls_of(app)
        prepared = prepare(asked.signature, app, self.kinds, may_block=not calls.link.awaited)
        return _Item(app, calls, prepared, request_of(prepared, asked))

    def clashes(self, item: _Item) -> bool:
        """Whether it can't go with those that are gathered."""
        if not self.items:
            return False
        request = item.request
        return item.app is not self.items[0][1].app or (
            request is not None and (request.label in self.labels or request.id in self.labels)
        )

    def add(self, position: int, item: _Item) -> int:
        """Gather it; answers how many there are now."""
        self.items.append((position, item))
        if item.request is not None:
            self.labels.add(item.request.id)
            if item.request.name:
                self.labels.add(item.request.name)
        return len(self.items)

    async def flush_full(self) -> None:
        """Flush where each shard has its script full."""
        calls = self.items[-1][1].calls
        room = BULK if calls is None else min(GATHERED, BULK * len(await calls.shards()))
        if len(self.items) >= room:
            await self.flush()

    async def flush(self) -> None:
        """Send what is gathered, once what was sent before is stored.

        Redis works while the next are gathered.
        """
        items, self.items, self.labels, self.kinds, self.calls = self.items, [], set(), {}, {}
        self.end()
        if not items:
            return
        calls = items[0][1].calls
        if calls is None:
            self._tell(items, {})
        else:
            self._end = await calls.link.begin(self._store(items, calls))
            self._late = time.monotonic() + LATE

    def end_if_late(self) -> None:
        """Where items come slowly, don't let the caller wait for the results of those before."""
        if self._end is not None and time.monotonic() > self._late:
            self.end()

    def end(self) -> None:
        """See to it that what was sent is stored."""
        end, self._end = self._end, None
        if end is not None:
            end()

    async def _store(self, items: list[tuple[int, _Item]], calls: Calls) -> None:
        asked = [(i, item.request) for i, (_, item) in enumerate(items) if item.request]
        stored: dict[int, Outcome] = {}
        try:
            await calls.schedule(
                [request for _, request in asked],
                lambda positions, outcomes: stored.update(zip(positions, outcomes, strict=True)),
            )
        finally:
            # also where an error cut it short: those that are stored are told of
            told = self._tell(items, {i: stored[n] for n, (i, _) in enumerate(asked) if n in stored})
            if told and setting(items[0][1].app, "task_send_sent_event"):
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

"""What users call from asyncio: the calls of `scheduling` and `bulk`, awaited.

Each has the arguments, the answer and the errors of the one without the `a` (a test compares the signatures),
and holds the event loop up no longer than it takes to prepare one message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Iterable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Literal, overload

from celery.canvas import Signature
from celery.schedules import BaseSchedule

from celery_redis_expiry import steps
from celery_redis_expiry.arguments import checked
from celery_redis_expiry.bulk import ScheduleSummary, schedule_many
from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.results import RecurringTimer, ScheduledGroupResult, ScheduledResult
from celery_redis_expiry.store import calls_on_loop
from celery_redis_expiry.timer import Timer


@overload
async def aschedule_on_expiry(
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
    on_commit: Literal[False] = ...,
    app: Any = ...,
) -> ScheduledResult | ScheduledGroupResult: ...
@overload
async def aschedule_on_expiry(
    signature: Signature,
    seconds: float | timedelta | None = ...,
    *,
    at: datetime | None = ...,
    key: str | None = ...,
    if_exists: str = ...,
    every: float | timedelta | BaseSchedule,
    overlap: bool | float | timedelta = ...,
    on_commit: Literal[False] = ...,
    app: Any = ...,
) -> RecurringTimer: ...
async def aschedule_on_expiry(
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
    on_commit: Literal[False] = False,
    app: Any = None,
) -> ScheduledResult | ScheduledGroupResult | RecurringTimer:
    """`schedule_on_expiry` for asyncio: the same arguments, answer and errors; `on_commit` is refused.

    Where it is cancelled in the middle, by a timeout or a client that went, the timer may be stored all the
    same: with a `key` of your own you can `acancel` it, or schedule it again without making a second.

    Returns:
        A result as of `schedule_on_expiry`. Its own methods block, as all of Celery's do: use `aget_timer`,
        `acancel` and `areschedule` with it.

    Raises:
        InvalidTimer: also for `on_commit`, and where the result backend speaks to its server at each call, as
            `rpc` does.
    """
    if on_commit is not False:
        # an event loop's thread never has one of Django's open: it would be stored at once, and outlive a
        # rollback of the transaction that was meant
        raise InvalidTimer(
            "aschedule_on_expiry has no on_commit: transactions of Django's belong to the thread that opened "
            "them. Await it after the commit, or call schedule_on_expiry(…, on_commit=True) next to the "
            "models, in the function that sync_to_async runs"
        )
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
    return await steps.schedule(calls_on_loop, asked)


async def aschedule_many_on_expiry(
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    if_exists: str = "replace",
    on_result: Callable[[int, ScheduledResult | ScheduledGroupResult], Any] | None = None,
    app: Any = None,
) -> ScheduleSummary:
    """`schedule_many_on_expiry` for asyncio: the same arguments, answer and errors.

    Arguments:
        items: may be asynchronous, too, such as the rows of a database driver.
        on_result: is called, and not awaited.

    Where it is cancelled in the middle, what `on_result` was told of is stored, and perhaps some more.
    """
    async with aclosing(_with_room(items)) as each:
        return await schedule_many(calls_on_loop, each, if_exists, on_result, app)


async def _with_room(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """The items, with room between them for what else the event loop has to do."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
            await asyncio.sleep(0)
    else:
        for item in items:
            yield item
            await asyncio.sleep(0)


async def acancel(target: Any, *, app: Any = None) -> bool:
    """`cancel` for asyncio: the same arguments, answer and errors."""
    return await steps.cancel(calls_on_loop, target, app)


async def areschedule(
    target: Any,
    seconds: float | timedelta | None = None,
    *,
    at: datetime | None = None,
    app: Any = None,
) -> bool:
    """`reschedule` for asyncio: the same arguments, answer and errors."""
    return await steps.reschedule(calls_on_loop, target, seconds, at, app)


async def aget_timer(target: Any, *, app: Any = None) -> Timer | None:
    """`get_timer` for asyncio: the same arguments, answer and errors."""
    return await steps.get_timer(calls_on_loop, target, app)

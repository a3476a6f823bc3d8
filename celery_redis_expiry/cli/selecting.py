"""Which timers a command means: the options, and moments as an operator writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click
from celery.utils.time import maybe_iso8601

from celery_redis_expiry.cli.base import option, store
from celery_redis_expiry.selection import STATES, Selection
from celery_redis_expiry.timer import LATEST

UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time (ISO 8601), or how long from now: `10m`, `1d12h`."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        parts = re.findall(r"(\d+(?:\.\d+)?)([wdhms])", value)
        if parts and "".join(map("".join, parts)) == value:
            try:
                return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
            except OverflowError:
                self.fail(f"{value!r} is too long", param, ctx)
        try:
            when = maybe_iso8601(value)
        except (TypeError, ValueError):
            when = None
        if isinstance(when, datetime):
            return when
        self.fail(f"{value!r} is neither a time (2030-01-31T12:00) nor a duration (10m, 1d12h)", param, ctx)


MOMENT = Moment()


def selecting(*states: str) -> Callable[..., Any]:
    """The options of a command that means many timers, of these states."""
    options = (
        option("-t", "--task", metavar="PATTERN", help_group="Filters", help="The task, such as 'shop.*'."),
        option(
            "-n",
            "--name",
            metavar="PATTERN",
            help_group="Filters",
            help="The name of the timer, such as 'referral:*'; one without a name goes by its task id.",
        ),
        option(
            "--due-after",
            type=MOMENT,
            help_group="Filters",
            help="Due later than this: 2030-01-31T12:00 (in the app's time zone), or 2h from now.",
        ),
        option("--due-before", type=MOMENT, help_group="Filters", help="Due earlier than this."),
        option("-Q", "--queue", help_group="Filters", help="The queue that it will go to."),
        option(
            "-s",
            "--state",
            "states",
            type=click.Choice(states),
            multiple=True,
            default=states,
            help_group="Filters",
            help="Its state; may be repeated. Default: any.",
        ),
    )

    def decorate(command: Any) -> Any:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


def selection(
    ctx: click.Context,
    task: str | None,
    name: str | None,
    due_after: datetime | timedelta | None,
    due_before: datetime | timedelta | None,
    queue: str | None,
    states: tuple[str, ...],
) -> Selection:
    """What the options mean, by Redis's clock."""
    low = 0 if due_after is None else _ms(ctx, due_after) + 1
    high = LATEST if due_before is None else _ms(ctx, due_before) - 1
    chosen = tuple(state for state in STATES if state in states)
    return Selection(task, name, queue, low, high, chosen)


def _ms(ctx: click.Context, when: datetime | timedelta) -> int:
    if isinstance(when, timedelta):
        return store(ctx).now() + round(when.total_seconds() * 1000)
    if when.tzinfo is None:
        when = when.replace(tzinfo=ctx.obj.app.timezone)
    return round(when.timestamp() * 1000)

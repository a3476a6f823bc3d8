"""`celery expiry list`: what waits, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

import click

from celery_redis_expiry.cli.base import Command, json_option, option, say_json, store
from celery_redis_expiry.cli.selecting import selecting, selection
from celery_redis_expiry.cli.texts import (
    call,
    moment,
    remaining,
    table,
    timer_told,
)
from celery_redis_expiry.selection import STATES, Selection
from celery_redis_expiry.store import Place, Store
from celery_redis_expiry.timer import Timer, shown

Listed = tuple[str, Timer]


@click.command(
    name="list",
    cls=Command,
    examples=(
        "list",
        "list --name 'referral:*' --due-before 2h",
        "list --task shop.remind --limit 20 --after waiting-1795000000000-0-tJ0Zx3vQ9kfw",
        "list --json --limit 1000000 | jq -r .id",
    ),
    failed="Redis can't be reached, or refuses",
)
@selecting(*STATES)
@option(
    "-l", "--limit", type=click.IntRange(1), default=100, show_default=True, help="So many timers at most."
)
@option("--after", "cursor", metavar="CURSOR", help="Go on behind this place, as the last page printed it.")
@json_option("a line for each timer, each with the cursor of its place")
@click.pass_context
def list_(ctx: click.Context, /, limit: int, cursor: str | None, as_json: bool, **filters: Any) -> None:
    """List timers: what is being published, what waits, soonest first, what is parked.

    They are read page by page, however many there are, without holding Redis up. Filters that the index can't
    answer (--task, --queue) look at every timer. Times are in the time zone of the app.
    """
    found = _listed(store(ctx), selection(ctx, **filters), _place(cursor))
    if as_json:
        for place, timer in islice(found, limit):
            say_json(ctx, {**timer_told(timer), "cursor": place})
        return
    last: list[str] = []
    for line in table(
        ("REMAINING", f"DUE ({ctx.obj.app.timezone})", "TIMER", "TASK", "ARGUMENTS"),
        _rows(islice(found, limit), ctx.obj.app.timezone, last),
        ctx.obj.style,
    ):
        ctx.obj.echo(line)
    if not last:
        ctx.obj.echo("no timers")
    elif next(found, None):
        ctx.obj.echo(f"more: --after {last[0]}")


def _listed(timers: Store, wanted: Selection, after: tuple[str, Place] | None) -> Iterator[Listed]:
    for state in STATES[STATES.index(after[0]) if after else 0 :]:
        if state in wanted.states:
            start = after[1] if after and state == after[0] else None
            for place, timer in timers.listed(state, wanted, after=start):
                if wanted.takes(timer):
                    yield f"{state}-{place.score}-{place.shard}-{quote(place.generation, safe='')}", timer


def _rows(listed: Iterator[Listed], zone: Any, last: list[str]) -> Iterator[tuple[str, ...]]:
    """Rows of the table; `last` gets the cursor of the last one."""
    for place, timer in listed:
        last[:] = [place]
        label, task = shown(timer.name or timer.id), shown(timer.task)
        if timer.every:
            task += f" ({shown(timer.every)})"
        yield remaining(timer), moment(timer.due, zone), label, task, call(timer)


def _place(cursor: str | None) -> tuple[str, Place] | None:
    if cursor is None:
        return None
    parts = re.fullmatch(rf"({'|'.join(STATES)})-(\d+)-(\d+)-(.*)", cursor)
    if parts is None:
        raise click.BadParameter("copy it from the end of a page", param_hint="--after")
    return parts[1], Place(int(parts[2]), int(parts[3]), unquote(parts[4]))

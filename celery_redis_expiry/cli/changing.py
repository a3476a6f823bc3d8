"""`celery expiry cancel`, `reschedule` and `fire`: single timers, by name or task id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from celery_redis_expiry import cancel as cancel_timer
from celery_redis_expiry import get_timer
from celery_redis_expiry import reschedule as reschedule_timer
from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import fire_timer
from celery_redis_expiry.cli.base import FAILED, Command, argument, json_option, option, say_json
from celery_redis_expiry.cli.selecting import MOMENT
from celery_redis_expiry.store import calls_of
from celery_redis_expiry.timer import shown

NOT_FOUND = "one of them was not there, or is being published; or Redis can't be reached"


@click.command(
    cls=Command, examples=("cancel referral:42", "cancel referral:42 referral:43 --json"), failed=NOT_FOUND
)
@argument("timers", nargs=-1, required=True)
@json_option("a line for each timer")
@click.pass_context
def cancel(ctx: click.Context, timers: tuple[str, ...], as_json: bool) -> None:
    """Forget waiting timers. TIMERS are names or task ids.

    One that is being published is beyond recall. Many at once: purge.
    """
    app = ctx.obj.app
    _each(ctx, timers, "cancelled", lambda timer: cancel_timer(timer, app=app), as_json)


@click.command(
    cls=Command,
    examples=(
        "reschedule referral:42 --seconds 3600",
        "reschedule referral:42 --at 2030-01-31T12:00+01:00",
        "reschedule referral:42 --at 1d12h",
    ),
    failed="there is no such timer, or Redis can't be reached",
)
@argument("timer")
@option("-s", "--seconds", type=click.FloatRange(0), help="So many seconds from now.")
@option("--at", type=MOMENT, help="At this time: 2030-01-31T12:00 (in the app's time zone), or 2h from now.")
@json_option("one document")
@click.pass_context
def reschedule(
    ctx: click.Context, timer: str, seconds: float | None, at: datetime | timedelta | None, as_json: bool
) -> None:
    """Give a timer another due time. TIMER is its name or task id.

    Signature and task id stay. One that is being published right now is published, and fires once more.
    """
    if (seconds is None) == (at is None):
        raise click.UsageError("Give either --seconds or --at.")
    app = ctx.obj.app
    when: dict[str, Any] = {"seconds": at} if isinstance(at, timedelta) else {"seconds": seconds, "at": at}
    _each(ctx, (timer,), "rescheduled", lambda each: reschedule_timer(each, **when, app=app), as_json)


@click.command(cls=Command, examples=("fire referral:42", "fire referral:42 referral:43"), failed=NOT_FOUND)
@argument("timers", nargs=-1, required=True)
@json_option("a line for each timer")
@click.pass_context
def fire(ctx: click.Context, timers: tuple[str, ...], as_json: bool) -> None:
    """Fire waiting timers now: they become due at once. TIMERS are names or task ids.

    An expiry worker must run for their tasks to be sent. One that is being published is left alone, since it
    would be sent twice. Dead letters: dead retry.
    """
    app = ctx.obj.app
    _each(ctx, timers, "fired", lambda timer: run(fire_timer(calls_of(app), app, timer)), as_json)


def _each(
    ctx: click.Context, timers: tuple[str, ...], done: str, change: Callable[[str], bool], as_json: bool
) -> None:
    """Change one after the other, and say of each what became of it."""
    failed = 0
    for name in timers:
        changed = change(name)
        found = get_timer(name, app=ctx.obj.app) if done == "rescheduled" or not changed else None
        state = found.state if found else None
        failed += not changed
        if as_json:
            due = found.due.isoformat() if found and found.due else None
            say_json(ctx, {"timer": name, done: changed, "state": state, "due": due})
        elif changed:
            due = f", due {found.due.astimezone(ctx.obj.app.timezone)}" if found and found.due else ""
            ctx.obj.echo(f"{done} {shown(name)}{due}")
        else:
            why = "it is being published, or may have been" if found else "no such timer"
            ctx.obj.error(f"not {done}: {shown(name)}: {why}")
    if failed:
        ctx.exit(FAILED)

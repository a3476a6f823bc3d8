"""`celery expiry show`: one timer, or dead letter."""

from __future__ import annotations

import click

from celery_redis_expiry import iter_dead_letters
from celery_redis_expiry.cli.base import Command, argument, json_option, store
from celery_redis_expiry.cli.details import known, say
from celery_redis_expiry.timer import shown


@click.command(
    cls=Command,
    examples=("show referral:42", "show 5b1fd0d2-3c70-4ef0-9d32-d4b5b1b1a1f5 --json"),
    failed="there is no such timer or dead letter, or Redis can't be reached",
)
@argument("timer")
@json_option("one document")
@click.pass_context
def show(ctx: click.Context, timer: str, as_json: bool) -> None:
    """Show all that is known of one timer, or dead letter. TIMER is its name or its task id."""
    timers = store(ctx)
    letters = iter_dead_letters(app=ctx.obj.app)
    found = timers.get(timer) or next((each for each in letters if timer in (each.label, each.id)), None)
    if found is None:
        raise click.ClickException(f"no such timer: {shown(timer)} (it fired, was cancelled, or never was)")
    say(ctx, known(timers, found), as_json)

"""`celery expiry purge`: many waiting timers forgotten."""

from __future__ import annotations

from typing import Any

import click

from celery_redis_expiry.changing import tell_cancelled
from celery_redis_expiry.cli.base import SPARE_ASKING, Command, json_option, option, progress, say_json, store
from celery_redis_expiry.cli.selecting import selecting, selection
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store import purge as purge_timers


@click.command(
    cls=Command,
    examples=("purge --name 'referral:*'", "purge --task shop.remind --due-after 30d --force", "purge"),
    failed="the answer was no, and nothing was purged; or Redis can't be reached: run it again",
)
@selecting("waiting", "parked")
@option(*SPARE_ASKING, "force", is_flag=True, help="Don't ask.")
@json_option("one document")
@click.pass_context
def purge(ctx: click.Context, /, force: bool, as_json: bool, **filters: Any) -> None:
    """Forget all waiting timers, or those that fit the filters. There is no undo.

    To see which: list, with the same filters. To keep them: export first. Timers that are being published are
    beyond recall, and reported as claimed. Dead letters: dead discard.
    """
    wanted = selection(ctx, **filters)
    timers = store(ctx)
    counts = timers.counts()
    length = sum(counts[state] for state in wanted.states)
    if not force:
        ctx.obj.error(_warning(ctx, wanted, length, f"{timers.location.url}, namespace {timers.namespace}"))
        click.confirm("Are you sure?", abort=True, err=True)
    with progress(ctx, length, "purging") as advance:
        purged, claimed = purge_timers(
            timers, wanted, cancelled=lambda ids: tell_cancelled(ctx.obj.app, ids), progress=advance
        )
    if as_json:
        say_json(ctx, {"purged": purged, "claimed": claimed})
        return
    ctx.obj.echo(f"{purged} timers purged")
    if claimed:
        ctx.obj.echo(f"{claimed} are being published, or may have been: beyond recall")


def _warning(ctx: click.Context, wanted: Selection, length: int, where: str) -> str:
    every = wanted == Selection(states=wanted.states)
    which = f"all {length} timers" if every else f"those of {length} timers that fit the filters"
    return f"{ctx.obj.style('WARNING', fg='red')}: This will forget {which} in {where}."

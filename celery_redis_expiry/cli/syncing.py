"""`celery expiry sync-beat`: `beat_schedule` becomes recurring timers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from celery_redis_expiry.beat import sync
from celery_redis_expiry.cli.base import FAILED, Command, json_option, option, say_json
from celery_redis_expiry.timer import shown

COLOURS = {"added": "green", "changed": "yellow", "removed": "red", "refused": "red"}
#: In the order in which they are counted.
WORDS = ("added", "changed", "removed", "unchanged", "refused")


@click.command(
    name="sync-beat",
    cls=Command,
    examples=("sync-beat --dry-run", "sync-beat", "sync-beat --no-overlap"),
    failed="an entry was refused (the others were stored), or Redis can't be reached",
)
@option(
    "--overlap/--no-overlap",
    default=True,
    show_default=True,
    help="Whether an occurrence fires while the task of the last one waits or runs, as it does with beat.",
)
@option("--keep", is_flag=True, help="Remove no timer whose entry is gone.")
@option("--dry-run", "dry", is_flag=True, help="Only say what would be done; nothing is changed.")
@json_option("a line for each entry")
@click.pass_context
def sync_beat(ctx: click.Context, overlap: bool, keep: bool, dry: bool, as_json: bool) -> None:
    """Make recurring timers of beat_schedule, in place of celery beat.

    Run it at each deployment: it adds, changes and removes what it made itself, leaves timers of your own
    alone, and changes nothing when repeated. Stop celery beat before the first time, else both send.
    """
    counts: Counter[str] = Counter()
    for change in sync(ctx.obj.app, overlap=overlap, remove=not keep, dry=dry):
        counts[change.what] += 1
        if as_json:
            say_json(ctx, asdict(change) | {"dry_run": dry})
            continue
        style = ctx.obj.style
        word = style(f"{change.what:<9}", fg=COLOURS[change.what]) if change.what in COLOURS else change.what
        about = ", ".join(shown(part) for part in (change.schedule, change.task) if part)
        line = f"{word} {shown(change.name)}" + (f" ({about})" if about else "")
        if change.reason:
            ctx.obj.error(f"{line}: {shown(change.reason)}")
        else:
            ctx.obj.echo(line)
    if not as_json:
        told = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
        ctx.obj.echo((told or "no entries") + (" (dry run: nothing was changed)" if dry else ""))
    if counts["refused"]:
        ctx.exit(FAILED)

"""`celery expiry adopt` and `reshard`: whose timers these are, and into how many shards they are cut."""

from __future__ import annotations

import click

from celery_redis_expiry.cli.base import (
    Command,
    argument,
    confirm_option,
    json_option,
    progress,
    say_json,
    store,
)
from celery_redis_expiry.store import reshard as move_timers
from celery_redis_expiry.store import stored
from celery_redis_expiry.worker.service import broker_identity


@click.command(
    cls=Command,
    examples=("adopt", "adopt --yes"),
    failed="the answer was no; or Redis can't be reached",
)
@confirm_option("Record this app and its broker as the owner of the namespace?")
@json_option("one document")
@click.pass_context
def adopt(ctx: click.Context, as_json: bool) -> None:
    """Take the namespace over, after the app or its broker was moved or renamed."""
    timers, broker = store(ctx), broker_identity(ctx.obj.app)
    timers.enter(broker, adopt=True)
    if as_json:
        say_json(ctx, {"namespace": timers.namespace, "app": timers.owner, "broker": broker})
    else:
        ctx.obj.echo("adopted")


@click.command(
    cls=Command,
    examples=("reshard 64",),
    failed="an expiry worker runs, or the answer was no; or Redis can't be reached: run it again",
)
@argument("number", type=click.IntRange(1, 1024))
@confirm_option("Move all timers? Scheduling is refused and nothing fires until it is done. Continue?")
@json_option("one document")
@click.pass_context
def reshard(ctx: click.Context, number: int, as_json: bool) -> None:
    """Cut the namespace into NUMBER shards, while no expiry worker runs.

    A run that was interrupted is finished by the next one with the same NUMBER. A shard is what moves as a
    whole when a Redis Cluster migrates slots: many small ones hold no server up.
    """
    timers = store(ctx)
    with progress(ctx, stored(timers), "looking at timers") as advance:
        moved = move_timers(timers, number, advance)
    if as_json:
        say_json(ctx, {"moved": moved, "shards": number})
        return
    ctx.obj.echo(f"{moved} timers moved, the namespace {timers.namespace} is cut into {number} shards")

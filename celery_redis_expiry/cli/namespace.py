"""`celery expiry adopt` and `reshard`: whose timers these are, and into how many shards they are cut."""

from __future__ import annotations

import sys

import click
from celery.bin.base import CeleryCommand

from celery_redis_expiry.cli.base import store
from celery_redis_expiry.store import reshard as move_timers
from celery_redis_expiry.store import stored
from celery_redis_expiry.worker.service import broker_identity


@click.command(cls=CeleryCommand)
@click.confirmation_option(prompt="Record this app and its broker as the owner of the namespace?")
@click.pass_context
def adopt(ctx: click.Context) -> None:
    """Take the namespace over, after the app or its broker was moved or renamed."""
    store(ctx).enter(broker_identity(ctx.obj.app), adopt=True)
    click.echo("adopted")


@click.command(cls=CeleryCommand)
@click.argument("number", type=click.IntRange(1, 1024))
@click.confirmation_option(
    prompt="Move all timers? Scheduling is refused and nothing fires until it is done. Continue?"
)
@click.pass_context
def reshard(ctx: click.Context, number: int) -> None:
    """Cut the namespace into NUMBER shards, while no expiry worker runs.

    A run that was interrupted is finished by the next one with the same NUMBER. A shard is what moves as a
    whole when a Redis Cluster migrates slots: many small ones hold no server up.
    """
    timers = store(ctx)
    with click.progressbar(length=stored(timers), label="looking at timers", file=sys.stderr) as bar:
        moved = move_timers(timers, number, bar.update)
    click.echo(f"{moved} timers moved, the namespace {timers.namespace} is cut into {number} shards")

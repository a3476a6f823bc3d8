"""`celery expiry adopt`: whose timers these are."""

from __future__ import annotations

import click
from celery.bin.base import CeleryCommand

from celery_redis_expiry.cli.base import store
from celery_redis_expiry.worker.service import broker_identity


@click.command(cls=CeleryCommand)
@click.confirmation_option(prompt="Record this app and its broker as the owner of the namespace?")
@click.pass_context
def adopt(ctx: click.Context) -> None:
    """Take the namespace over, after the app or its broker was moved or renamed."""
    store(ctx).enter(broker_identity(ctx.obj.app), adopt=True)
    click.echo("adopted")

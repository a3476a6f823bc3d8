"""`celery expiry stats`: how many timers there are."""

from __future__ import annotations

import json

import click
from celery.bin.base import CeleryCommand

from celery_redis_expiry.cli.base import store


@click.command(cls=CeleryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def stats(ctx: click.Context, as_json: bool) -> None:
    """How many timers are waiting, parked, claimed and dead."""
    timers = store(ctx)
    counts = timers.counts()
    if as_json:
        click.echo(json.dumps({"redis": timers.location.url, "namespace": timers.namespace, **counts}))
        return
    click.echo(f"{timers.location.url}, namespace {timers.namespace}")
    for name, count in counts.items():
        click.echo(f"{name:>10}  {count}")

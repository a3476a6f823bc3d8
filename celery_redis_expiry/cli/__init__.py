"""`celery expiry …`: what an operator types."""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import handle_preload_options

from celery_redis_expiry.cli import dead, doctor, namespace, stats
from celery_redis_expiry.cli.base import Group
from celery_redis_expiry.plugin import install

install()


@click.group(name="expiry", cls=Group)
@click.pass_context
@handle_preload_options  # Celery gives an app's own options to this group, and not to the commands in it
def expiry(ctx: click.Context, **_: Any) -> None:
    """Timers kept in Redis (celery-redis-expiry).

    Start the worker that fires them with: celery -A proj worker -P expiry -n expiry@%h
    """


for command in (doctor.doctor, stats.stats, dead.dead, namespace.adopt, namespace.reshard):
    expiry.add_command(command)

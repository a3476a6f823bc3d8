"""`celery expiry …`: what an operator types."""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import handle_preload_options

from celery_redis_expiry.cli import (
    changing,
    dead,
    doctor,
    listing,
    moving,
    namespace,
    purging,
    rescuing,
    showing,
    stats,
    syncing,
    watch,
)
from celery_redis_expiry.cli.base import Group
from celery_redis_expiry.plugin import install

install()


@click.group(name="expiry", cls=Group)
@click.pass_context
@handle_preload_options  # Celery gives an app's own options to this group, and not to the commands in it
def expiry(ctx: click.Context, **_: Any) -> None:
    """Timers kept in Redis (celery-redis-expiry).

    Start the worker that fires them with: celery -A proj worker -P expiry -n expiry@%h

    A timer goes by its name (key=) or its task id. Every command prints JSON with --json (export has nothing
    else), and ends with exit code 0 (done), 1 (not found, or failed) or 2 (wrong usage). When something is
    wrong: doctor, first of all.
    """


for command in (
    *(listing.list_, showing.show, changing.cancel, changing.reschedule, changing.fire),
    *(dead.dead, stats.stats, watch.watch, doctor.doctor),
    syncing.sync_beat,
    *(purging.purge, moving.export, moving.import_, rescuing.rescue, namespace.adopt, namespace.reshard),
):
    expiry.add_command(command)

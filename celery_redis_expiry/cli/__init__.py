"""`celery expiry …`: what an operator types."""

from __future__ import annotations

import click

from celery_redis_expiry.cli import dead, namespace, stats
from celery_redis_expiry.cli.base import Group
from celery_redis_expiry.plugin import install

install()


@click.group(name="expiry", cls=Group)
def expiry() -> None:
    """Timers kept in Redis (celery-redis-expiry).

    Start the worker that fires them with: celery -A proj worker -P expiry -n expiry@%h
    """


for command in (stats.stats, dead.dead, namespace.adopt):
    expiry.add_command(command)

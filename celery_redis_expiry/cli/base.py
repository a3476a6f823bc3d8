"""What the commands share."""

from __future__ import annotations

from typing import Any

import click

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.store import Store, store_of


class Group(click.Group):
    """Errors of this package are the user's to mend: a line, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExpiryError as exc:
            raise click.ClickException(str(exc)) from exc


def store(ctx: click.Context) -> Store:
    """The store of the app that `celery -A` names."""
    return store_of(ctx.obj.app)

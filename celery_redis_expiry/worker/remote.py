"""Remote control commands that mean something else to an expiry worker."""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel, nok

#: Commands that would make it run tasks. They are broadcast, so it gets those that are meant for others.
REFUSED = ("add_consumer", "autoscale", "pool_grow", "pool_shrink")


def install() -> None:
    """Take the place of Celery's own commands; for the process of an expiry worker."""
    for command in REFUSED:
        Panel.data[command] = _refuse


def _refuse(state: Any, *_: Any, **__: Any) -> Any:
    return nok("an expiry worker runs no task and consumes no queue")

"""What makes `celery worker -P expiry` work by installing alone.

Celery imports the entry points of `celery.commands` when its command line starts. Importing this module names
the pool, and lets each worker that is about to be built have the bootstep; the step itself asks for the pool.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import signals
from celery.concurrency import ALIASES, get_available_pool_names

POOL = "expiry"


def install() -> None:
    """Make the pool known. Repeating it does no harm."""
    ALIASES.setdefault(POOL, "celery_redis_expiry.worker.pool:TaskPool")
    signals.celeryd_init.connect(_add_bootstep, weak=False, dispatch_uid="celery-redis-expiry")
    worker = sys.modules.get("celery.bin.worker")
    if worker is not None:
        # made when celery.bin.worker was imported, before any entry point was
        worker.WORKERS_POOL.choices = get_available_pool_names()


def _add_bootstep(instance: Any = None, **_: Any) -> None:
    """`celeryd_init` comes before the worker's blueprint is built."""
    from celery_redis_expiry.worker.bootstep import ExpiryStep

    instance.app.steps["worker"].add(ExpiryStep)

"""What makes `celery worker -P expiry` and `celery worker --expiry` work by installing alone.

Celery imports the entry points of `celery.commands` when its command line starts. Importing this module names
the pool, gives the command `worker` its option, and lets each worker that is about to be built have the
bootstep; the step itself asks for the pool, the option and the setting.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.bin import worker
from celery.bin.base import CeleryOption
from celery.concurrency import ALIASES, get_available_pool_names

POOL = "expiry"
#: Under this name Celery hands the option on to the bootstep.
OPTION = "expiry"


def install() -> None:
    """Make pool and option known. Repeating it does no harm."""
    ALIASES.setdefault(POOL, "celery_redis_expiry.worker.pool:TaskPool")
    signals.celeryd_init.connect(_add_bootstep, weak=False, dispatch_uid="celery-redis-expiry")
    # made when celery.bin.worker was imported, before any entry point was
    worker.WORKERS_POOL.choices = get_available_pool_names()
    # where Celery itself puts an app's user_options: those would have to be given in each app
    if all(param.name != OPTION for param in worker.worker.params):
        worker.worker.params.append(_option())


def _option() -> CeleryOption:
    return CeleryOption(
        ["--expiry/--no-expiry"],
        default=None,
        help_group="Embedded Expiry Options",
        help="Also fire timers, as a worker with -P expiry does. Default: the setting expiry_in_worker.",
    )


def _add_bootstep(instance: Any = None, **_: Any) -> None:
    """`celeryd_init` comes before the worker's blueprint is built."""
    from celery_redis_expiry.worker.bootstep import ExpiryStep

    instance.app.steps["worker"].add(ExpiryStep)

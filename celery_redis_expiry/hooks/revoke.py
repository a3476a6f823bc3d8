"""Revoking a task cancels its timer.

Celery broadcasts a revoke to the workers that are up, and each remembers it until it restarts: far less than
a day. So it goes to Redis as well, from every process that imports the package, before it is broadcast.
`AsyncResult.revoke`, `app.control.revoke`, `celery control revoke` and Flower's button all come by here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from celery.app.control import Control

from celery_redis_expiry.arguments import app_of
from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import cancel_timer
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import ExpiryError, NotConfigured
from celery_redis_expiry.hooks.patch import wrap
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Store, calls_of, new_store

logger = logging.getLogger(__name__)

COMMANDS = ("revoke", "terminate")
#: Seconds for each of two attempts to look whether timers are meant: most revokes are of other tasks, and are
#: not to wait for long for a Redis that hangs.
TIMEOUT = 2.0

_lookups: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()


def install() -> None:
    wrap(Control, "broadcast", ("self", "command", "arguments", "destination"), _broadcast)


def _broadcast(
    original: Callable[..., Any],
    control: Any,
    command: str,
    arguments: Any = None,
    destination: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    # a revoke that is meant for some workers only is theirs; an expiry worker among them cancels the timer
    if command in COMMANDS and not destination and not kwargs.get("pattern"):
        cancel_revoked(app_of(control.app), (arguments or {}).get("task_id") or kwargs.get("task_id"))
    return original(control, command, arguments, destination, *args, **kwargs)


def cancel_revoked(app: Any, task_id: Any) -> None:
    """Cancel the timers of revoked tasks, as far as there are any. Raises nothing: the revoke goes on.

    Arguments:
        task_id: one, or several.
    """
    ids = task_ids(task_id)
    if not ids or runs_at_once(app):
        return
    try:
        if app not in _lookups:
            _lookups[app] = new_store(app, timeout=TIMEOUT, retries=1)
        for id in _lookups[app].waiting_of(ids):
            if run(cancel_timer(calls_of(app), app, id, by_name=False)):
                logger.info(
                    "expiry: the timer of task %s was cancelled, since the task was revoked",
                    id,
                    extra=log_fields("revoked", task_id=id),
                )
    except NotConfigured as exc:
        logger.debug("expiry: a revoke cancels no timer, there is no Redis for them: %s", exc)
    except ExpiryError as exc:
        logger.warning(
            "expiry: the timers of %d revoked tasks may wait still: %s. An expiry worker that hears of the "
            "revoke cancels them; if none does, revoke again",
            len(ids),
            exc,
            extra=log_fields("revoke_not_told", count=len(ids), reason=str(exc)),
        )


def task_ids(given: Any) -> Sequence[str]:
    """Task ids as `revoke` takes them: one, or several."""
    several = given if isinstance(given, list | tuple | set | frozenset) else [given]
    return [id for id in several if isinstance(id, str) and id]

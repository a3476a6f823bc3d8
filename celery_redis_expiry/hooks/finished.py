"""When the task of an occurrence has ended, its recurring timer is told: the next one need not wait for it.

In every worker that has the package. What no signal tells of (a worker that is killed, a hard time limit)
ends with the bound of the mark, `expiry_overlap_timeout`.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

from celery import signals, states
from celery.exceptions import Reject

from celery_redis_expiry.arguments import app_of
from celery_redis_expiry.blocking import run
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import AWAITED, NAME
from celery_redis_expiry.store import Store, new_store

logger = logging.getLogger(__name__)

#: Seconds for each of two attempts: the worker has other tasks to run.
TIMEOUT = 2.0

_stores: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()


def install() -> None:
    signals.task_postrun.connect(_ran, weak=False, dispatch_uid="celery-redis-expiry")
    signals.task_revoked.connect(_revoked, weak=False, dispatch_uid="celery-redis-expiry")
    signals.task_failure.connect(_lost, weak=False, dispatch_uid="celery-redis-expiry")


def _ran(
    sender: Any = None,
    task_id: Any = None,
    task: Any = None,
    state: Any = None,
    retval: Any = None,
    **_: Any,
) -> None:
    # what is retried, or rejected into its queue again, is the same task, which comes again
    if state != states.RETRY and not (isinstance(retval, Reject) and retval.requeue):
        finish(task, getattr(task, "request", None), task_id)


def _revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """Revoked, or expired, before it ran."""
    finish(sender, request, getattr(request, "id", None))


def _lost(sender: Any = None, task_id: Any = None, **_: Any) -> None:
    """Its process was lost; of a task that only failed `task_postrun` tells as well."""
    request = getattr(sender, "request", None)
    if getattr(request, "id", None) == task_id and getattr(request, "called_directly", True):
        finish(sender, request, task_id)


def finish(task: Any, request: Any, id: Any) -> None:
    """Tell the recurring timer of an occurrence that its task has ended. Raises nothing.

    Arguments:
        request: of the task, with the headers of its message.
    """
    label = getattr(request, NAME, None)
    if not getattr(request, AWAITED, None) or not isinstance(label, str) or not isinstance(id, str):
        return
    try:
        app = app_of(task.app)
        if runs_at_once(app):
            return
        if app not in _stores:
            _stores[app] = new_store(app, timeout=TIMEOUT, retries=1)
        run(_stores[app].calls.finish(label, id))
    except ExpiryError as exc:
        logger.warning(
            "expiry: the timer %s can't be told that its task %s has ended: %s. Its occurrences are skipped "
            "until expiry_overlap_timeout is over",
            label,
            id,
            exc,
            extra=log_fields("end_not_told", timer=label, task_id=id, reason=str(exc)),
        )

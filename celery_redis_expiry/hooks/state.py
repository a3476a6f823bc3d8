"""`AsyncResult(id).state` of a waiting timer is SCHEDULED, whatever the result backend.

A result backend knows nothing of a task before it runs, and says PENDING, as of any id it never heard of.
Then Redis is asked whether the task waits as a timer. Nothing is written into the result backend: it would
have to be kept true through every reschedule, cancel and foreign EXPIRE, would expire (`result_expires`, a
day by default) before a longer timer fires, and could overwrite what the running task has written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from celery.backends.base import DisabledBackend
from celery.result import AsyncResult
from celery.states import PENDING

from celery_redis_expiry.arguments import app_of
from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import ExpiryError, NotConfigured
from celery_redis_expiry.hooks.patch import wrap
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Store, new_store

logger = logging.getLogger(__name__)

#: The state of a task that waits as a timer.
SCHEDULED = "SCHEDULED"
#: Seconds that a look may take: who polls a state must not wait for a Redis that hangs.
TIMEOUT = 1.0
#: Seconds after a failed look until the next.
PAUSE = 5.0


def install() -> None:
    wrap(AsyncResult, "_get_task_meta", ("self",), _get_task_meta)


def _get_task_meta(original: Callable[..., Any], result: Any) -> Any:
    if isinstance(result.backend, DisabledBackend):
        # Celery's own answer is an error
        return _scheduled(result) or original(result)
    meta = original(result)
    if meta and meta.get("status") == PENDING:
        return _scheduled(result) or meta
    return meta


def _scheduled(result: Any) -> dict[str, Any] | None:
    """What a result backend would tell of a task that waits as a timer, or None."""
    glance = _glance_of(app_of(result.app))
    timer = glance.timer(result.id) if glance else None
    if timer is None or timer.retries:
        # of a retry Celery is about to say RETRY, whoever asks in between
        return None
    eta = timer.due.isoformat() if timer.due else None
    return {
        "status": SCHEDULED,
        "result": {"eta": eta, "name": timer.name},
        "task_id": result.id,
        "traceback": None,
        "children": [],
        "name": timer.task,
        "queue": timer.queue,
    }


class _Glance:
    """A look at the timers of an app that gives up soon, and is not repeated at once where it failed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._again = 0.0

    def timer(self, id: str) -> Any:
        if time.monotonic() < self._again:
            return None
        try:
            return self._store.get(id, by_name=False)
        except ExpiryError as exc:
            self._again = time.monotonic() + PAUSE
            logger.warning(
                "expiry: whether task %s waits as a timer can't be looked up: %s",
                id,
                exc,
                extra=log_fields("state_unknown", task_id=id, reason=str(exc)),
            )
            return None


_glances: WeakKeyDictionary[Any, _Glance | None] = WeakKeyDictionary()


def _glance_of(app: Any) -> _Glance | None:
    if runs_at_once(app):
        return None
    if app not in _glances:
        try:
            wanted = Settings.of(app).scheduled_state
            _glances[app] = _Glance(new_store(app, timeout=TIMEOUT, retries=0)) if wanted else None
        except NotConfigured as exc:
            logger.debug("expiry: no state is looked up among timers, there is no Redis for them: %s", exc)
            _glances[app] = None
    return _glances[app]

"""A countdown or eta beyond `expiry_countdown_threshold` becomes a timer, wherever it comes from.

`apply_async`, `retry`, what comes next in a chain, the body of a chord, beat: all go by `app.send_task`, with
all their options as they were given. Later is too late: for quorum queues it changes the exchange of what has
a countdown. Celery has no signal or setting there.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from celery.utils import uuid

from celery_redis_expiry.eager import runs_at_once
from celery_redis_expiry.errors import ExpiryError, NotReplicated, StoreUnavailable
from celery_redis_expiry.events import publish_scheduled
from celery_redis_expiry.hooks.delays import due_beyond
from celery_redis_expiry.hooks.patch import wrap
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import Prepared, goes_elsewhere, producer_of, record_call
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Request

logger = logging.getLogger(__name__)

#: What is read or changed of a call, by name.
PARAMETERS = (
    "self",
    "name",
    "args",
    "kwargs",
    "countdown",
    "eta",
    "task_id",
    "producer",
    "connection",
    "router",
    "result_cls",
    "expires",
    "publisher",
    "link",
    "link_error",
    "add_to_parent",
)
#: Seconds for which Celery has all calls after Redis was found away: each would wait for it anew.
PAUSE = 5.0

_paused: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def install() -> None:
    wrap(Celery, "send_task", PARAMETERS, _send_task)


def _send_task(original: Callable[..., Any], app: Any, *args: Any, **options: Any) -> Any:
    call = {**dict(zip(_names(original), args, strict=False)), **options}
    if not (call.get("countdown") or call.get("eta")) or runs_at_once(app):
        return original(app, *args, **options)
    # one id whichever way it goes: where nobody knows whether the timer was stored, it may go both
    call["task_id"] = call.get("task_id") or uuid()
    kept = _keep(original, app, call)
    if kept is None:
        return original(app, **call)
    if call.get("add_to_parent", True) and app.current_worker_task:
        app.current_worker_task.add_trail(kept.result)
    return kept.result


@lru_cache(maxsize=1)
def _names(original: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(original).parameters)[1:]


def _keep(original: Callable[..., Any], app: Any, call: Mapping[str, Any]) -> Prepared | None:
    """Make a timer of a call; None where Celery is to see to it as ever.

    A retry must not lose its task, so whatever is wrong with us is not raised.
    """
    prepared = None
    try:
        when = due_beyond(app, call)
        if when is None or goes_elsewhere(app, call):
            return None
        if time.monotonic() < _paused.get(app, 0.0):
            raise StoreUnavailable("Redis was away a moment ago")
        store = store_of(app)
        prepared = record_call(original, app, call)
        stored = prepared.stored
        [outcome] = store.schedule([Request(stored, when, "replace", None, stored.id)])
        outcome.raise_for_status()
    except NotReplicated as exc:
        # the timer is there: a message besides would run the task twice
        logger.warning("expiry: %s", exc, extra=log_fields("not_replicated", reason=str(exc)))
        return prepared
    except ExpiryError as exc:
        _give_up(app, call, exc)
        return None
    publish_scheduled(app, [(prepared, outcome)], producer_of(call))
    return prepared


def _give_up(app: Any, call: Mapping[str, Any], exc: ExpiryError) -> None:
    if isinstance(exc, StoreUnavailable) and time.monotonic() >= _paused.get(app, 0.0):
        _paused[app] = time.monotonic() + PAUSE
    logger.warning(
        "expiry: no timer for %s, a worker will hold its countdown as ever: %s",
        call.get("name"),
        exc,
        extra=log_fields("no_timer", task=call.get("name"), task_id=call["task_id"], reason=str(exc)),
    )

"""Which calls wait longer than `expiry_countdown_threshold`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from celery.utils.time import maybe_iso8601, maybe_make_aware

from celery_redis_expiry.settings import Settings
from celery_redis_expiry.timer import LATEST


def due_beyond(app: Any, call: Mapping[str, Any]) -> str | None:
    """When the message of a call is due, if that is further away than its task or the setting allows.

    Arguments:
        call: the arguments of `send_task` by their names.

    Returns:
        As `Request` takes it; None where Celery is to see to the call as ever.

    Raises:
        NotConfigured: the setting is unusable.
    """
    found = _delay(call.get("countdown"), call.get("eta"))
    if found is None:
        return None
    delay, when = found
    chosen = getattr(_task(app, call), "expiry", None)
    if chosen is False:
        return None
    threshold = 0.0 if chosen is True else Settings.threshold_of(app)
    return when if threshold is not None and delay > threshold else None


def _delay(countdown: Any, eta: Any) -> tuple[float, str] | None:
    """Seconds, and the due time as `Request` takes it; None for what has passed, and what Celery refuses.

    As with Celery a countdown goes before an eta, and a naive eta is in UTC.
    """
    if countdown:
        if not isinstance(countdown, int | float) or not 0 < countdown <= LATEST / 1000:
            return None
        return float(countdown), f"+{round(countdown * 1000)}"
    try:
        due = maybe_make_aware(maybe_iso8601(eta)).timestamp()
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    delay = due - time.time()
    return (delay, f"={math.ceil(due * 1000)}") if delay > 0 else None


def _task(app: Any, call: Mapping[str, Any]) -> Any:
    """The task that is called, if this process knows it."""
    if call.get("task_type") is not None:
        return call["task_type"]
    # an app may forbid to be finalized by the way
    return (app.tasks if app.autofinalize else app._tasks).get(call.get("name"))

"""Cancelling and moving a timer that is known by name or id, with what others are told of it.

See `blocking` for why most of these are coroutines.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.events import publish_moved, publish_revoked
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Calls
from celery_redis_expiry.timer import Outcome

logger = logging.getLogger(__name__)


async def cancel_timer(
    calls: Calls, app: Any, target: str, *, by_name: bool, only: str | None = None
) -> bool:
    """Forget a waiting timer: True if it was waiting and will not fire.

    Arguments:
        by_name: whether `target` may be a name, and not only a task id.
        only: see `Calls.cancel`.
    """
    id = await calls.cancel(target, by_name=by_name, only=only)
    if id is not None and (app.conf.task_send_sent_event or Settings.of(app).mark_revoked):
        await calls.link.aside(tell_cancelled, app, [id])
    return id is not None


async def move_timer(calls: Calls, app: Any, target: str, when: str, *, by_name: bool) -> bool:
    """Give a timer another due time: True if it was there.

    Arguments:
        when: see `timer.Request`.
        by_name: as for `cancel_timer`.
    """
    return await _tell_moved(calls, app, await calls.reschedule(target, when, by_name=by_name))


async def fire_timer(calls: Calls, app: Any, target: str) -> bool:
    """Make a waiting timer due now: True if it was waiting."""
    return await _tell_moved(calls, app, await calls.fire(target))


async def _tell_moved(calls: Calls, app: Any, outcome: Outcome | None) -> bool:
    if outcome is not None and app.conf.task_send_sent_event:
        await calls.link.aside(publish_moved, app, [outcome])
    return outcome is not None


def tell_cancelled(app: Any, ids: Sequence[str], reason: str = "the timer was cancelled") -> None:
    """Tell monitors, and the result backend if the app wants it, that these tasks will not be sent."""
    publish_revoked(app, ids)
    if not Settings.of(app).mark_revoked:
        return
    for id in ids:
        try:
            app.backend.mark_as_revoked(id, reason, store_result=True)
        except Exception as exc:
            # the timer is cancelled all the same
            logger.warning(
                "expiry: the result %s could not be marked as revoked: %r. Its timer is cancelled all the "
                "same; a get() that waits for it goes on waiting",
                id,
                exc,
                extra=log_fields("result_not_marked", task_id=id, reason=str(exc)),
            )

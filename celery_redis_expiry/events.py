"""The events that tell monitors such as Flower of a waiting timer, where `task_send_sent_event` is on.

They are Celery's own: a scheduled timer is a task that was sent, with its due time as ETA; a cancelled or
replaced one is a task that was revoked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import Prepared
from celery_redis_expiry.store import store_of
from celery_redis_expiry.timer import Outcome, as_datetime

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)


def publish_scheduled(app: Any, stored: Sequence[tuple[Prepared, Outcome]]) -> None:
    """Tell of what was just scheduled, extended and replaced."""
    if not app.conf.task_send_sent_event:
        return
    sent = [
        (event, outcome)
        for prepared, outcome in stored
        if outcome.status == "scheduled"
        for event in prepared.events
    ]
    if sent:
        with _forgiving("scheduled"), app.producer_or_acquire() as producer:
            for (body, arguments), outcome in sent:
                if isinstance(body, dict):
                    body["eta"] = _iso(outcome)
                producer.publish(body, **arguments)
    publish_moved(app, [outcome for _, outcome in stored if outcome.status == "extended"])
    publish_revoked(app, [outcome.replaced for _, outcome in stored if outcome.replaced])


def publish_moved(app: Any, outcomes: Iterable[Outcome]) -> None:
    """Tell of the new due times of timers."""
    moved = list(outcomes)
    if not moved or not app.conf.task_send_sent_event:
        return
    with _forgiving("moved"), app.events.default_dispatcher() as dispatcher:
        for outcome in moved:
            # monitors add the fields of a further event to what they know of the task
            dispatcher.send("task-sent", uuid=outcome.id, eta=_iso(outcome))


def publish_revoked(app: Any, ids: Iterable[str]) -> None:
    """Tell that these tasks will not be sent."""
    revoked = list(ids)
    if not revoked or not app.conf.task_send_sent_event:
        return
    with _forgiving("cancelled"):
        # in the name of a worker that there is: of an unknown one monitors would make up a further worker
        worker = next((name for name, wakes in store_of(app).announced().items() if wakes >= 0), None)
        if worker is None:
            logger.debug("expiry: no expiry worker is up in whose name task-revoked events could be sent")
            return
        with app.events.default_dispatcher(hostname=worker) as dispatcher:
            for id in revoked:
                dispatcher.send("task-revoked", uuid=id, terminated=False, signum=None, expired=False)


@contextmanager
def _forgiving(what: str) -> Iterator[None]:
    """Events are for monitors: without them a timer fires all the same."""
    try:
        yield
    except Exception as exc:
        logger.warning(
            "expiry: the events of %s timers were not published: %r. Monitors lack them; timers fire all the "
            "same",
            what,
            exc,
            extra=log_fields("events_lost", reason=str(exc)),
        )


def _iso(outcome: Outcome) -> str:
    return as_datetime(outcome.due).isoformat()

"""The events that tell monitors such as Flower of a waiting timer, where `task_send_sent_event` is on.

They are Celery's own: a scheduled timer is a task that was sent, with its due time as ETA, and received by an
expiry worker, as one with a countdown is by the worker that holds it: so monitors offer to revoke it. A
cancelled or replaced one is a task that was revoked.
"""

from __future__ import annotations

import logging
import time
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

#: What a worker tells of a task that it received.
RECEIVED = ("uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires")
#: Seconds, by this clock: what is due sooner may have run before we say who received it, and monitors
#: believe the last word.
SOON = 1.0


def publish_scheduled(app: Any, stored: Sequence[tuple[Prepared, Outcome]], producer: Any = None) -> None:
    """Tell of what was just scheduled, extended and replaced.

    Arguments:
        producer: one that the caller holds, to the app's broker: where the pool has no other, waiting for one
            would never end.
    """
    sent = [
        (event, outcome)
        for prepared, outcome in stored
        if outcome.status == "scheduled"
        for event in prepared.events
    ]
    # none where `task_send_sent_event` is off
    if sent:
        with _forgiving("scheduled"):
            with app.producer_or_acquire(producer) as acquired:
                for (body, arguments), outcome in sent:
                    if isinstance(body, dict):
                        body["eta"] = _iso(outcome)
                    acquired.publish(body, **arguments)
            _publish_received(app, [(body, outcome) for (body, _), outcome in sent], producer)
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
    revoked = [{"uuid": id, "terminated": False, "signum": None, "expired": False} for id in ids]
    if not revoked or not app.conf.task_send_sent_event:
        return
    with _forgiving("cancelled"):
        _publish_as_worker(app, "task-revoked", revoked)


def _publish_received(app: Any, sent: Iterable[tuple[Any, Outcome]], producer: Any) -> None:
    """Tell that a worker keeps the timers of these task-sent events."""
    soon = (time.time() + SOON) * 1000
    received = [
        {name: event.get(name) for name in RECEIVED}
        for event, outcome in sent
        if isinstance(event, dict) and outcome.due > soon
    ]
    if received:
        _publish_as_worker(app, "task-received", received, producer)


def _publish_as_worker(app: Any, type: str, events: Sequence[dict[str, Any]], producer: Any = None) -> None:
    """Publish what only workers tell, in the name of one that there is.

    Monitors take a name that they do not know for a further worker.
    """
    # each expiry worker announces itself in every shard
    workers = store_of(app).shards[0].announced()
    worker = next((name for name, wakes in workers.items() if wakes >= 0), None)
    if worker is None:
        logger.debug("expiry: no expiry worker is up in whose name %s events could be sent", type)
        return
    with (
        app.producer_or_acquire(producer) as acquired,
        app.events.Dispatcher(
            acquired.connection, hostname=worker, channel=acquired.channel, buffer_while_offline=False
        ) as dispatcher,
    ):
        for event in events:
            dispatcher.send(type, **event)


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

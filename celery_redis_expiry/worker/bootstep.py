"""The bootstep: builds the service in a worker with the pool `expiry`, starts it and stops it."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from celery import bootsteps

from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import new_store, use_store
from celery_redis_expiry.worker import remote
from celery_redis_expiry.worker.pool import TaskPool
from celery_redis_expiry.worker.service import Service

logger = logging.getLogger(__name__)

#: Seconds for one attempt at Redis where the worker's loop waits for it.
ANSWER_TIMEOUT = 1.0
#: Seconds; thirty years.
NEVER = 10**9


class ExpiryStep(bootsteps.StartStopStep):
    """A step of the worker, not of its consumer: it outlives the loss of the broker connection."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self.service: Service | None = None
        self.concurrency_given = bool(kwargs.get("concurrency") or kwargs.get("autoscale"))
        if self.include_if(worker):
            worker.concurrency = 1
            queues = worker.app.amqp.queues
            queues.deselect(list(queues.consume_from))

    def include_if(self, worker: Any) -> bool:
        pool = worker.pool_cls
        return isinstance(pool, type) and issubclass(pool, TaskPool)

    def create(self, worker: Any) -> Any:
        _set_transport(worker.app)
        try:
            impatient = new_store(worker.app, timeout=ANSWER_TIMEOUT, retries=1)
            self.service = Service(worker.app, worker.hostname, impatient)
        except NotConfigured as exc:
            self._refuse(exc)
        # calls that come from the worker's loop must not hold it up: it sends the heartbeats, too
        use_store(worker.app, impatient)
        remote.install(impatient)
        return self

    def start(self, worker: Any) -> None:
        assert self.service is not None
        if self.concurrency_given:
            logger.warning(
                "expiry: concurrency (-c, --autoscale) means nothing to an expiry worker and is ignored; "
                "start more expiry workers instead",
                extra=log_fields("concurrency_ignored"),
            )
        try:
            self.service.start()
        except NotConfigured as exc:
            self._refuse(exc)

    def stop(self, worker: Any) -> None:
        if self.service is not None:
            self.service.stop()

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def info(self, worker: Any) -> dict[str, Any]:
        """What `celery inspect stats` shows of this step."""
        return {"expiry": self.service.stats()} if self.service is not None else {}

    @staticmethod
    def _refuse(exc: NotConfigured) -> NoReturn:
        """A setting is wrong: say which, without a traceback, and end."""
        logger.critical("expiry: %s", exc, extra=log_fields("refused", reason=str(exc)))
        raise SystemExit(1) from exc


def _set_transport(app: Any) -> None:
    """Options of the broker connection that are right for an expiry worker, whatever the app's own are."""
    by_driver: dict[str, dict[str, Any]] = {
        # Celery applies a canvas by the app's own producers: they must wait for confirms too
        "amqp": {"confirm_publish": True},
        # at each connect kombu gives back to the queues, by the clock of this machine, what other workers
        # hold for longer. Who consumes nothing has no business there: an hour ahead, it ran tasks twice
        "redis": {"visibility_timeout": NEVER},
    }
    options = by_driver.get(app.connection_for_write().transport.driver_type)
    if options:
        app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), **options}

"""The bootstep: builds the service, starts it and stops it; in a worker with the pool `expiry`, or beside the
tasks of an ordinary one that was asked to (`--expiry`, `expiry_in_worker`)."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from celery import bootsteps
from celery.worker import state
from kombu.utils.compat import detect_environment

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

    def __init__(self, worker: Any, *, expiry: bool | None = None, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self.service: Service | None = None
        self.asked = expiry
        self.concurrency_given = bool(kwargs.get("concurrency") or kwargs.get("autoscale"))
        pool = worker.pool_cls
        self.dedicated = isinstance(pool, type) and issubclass(pool, TaskPool)
        if self.dedicated:
            worker.concurrency = 1
            queues = worker.app.amqp.queues
            queues.deselect(list(queues.consume_from))

    def include_if(self, worker: Any) -> bool:
        if self.dedicated or self.asked is not None:
            return self.dedicated or bool(self.asked)
        # others' settings are nobody's business in a worker that was not asked
        return bool(worker.app.conf.get("expiry_in_worker"))

    def create(self, worker: Any) -> Any:
        _set_transport(worker.app, self.dedicated)
        try:
            if not self.dedicated:
                _check_threads()
            impatient = new_store(worker.app, timeout=ANSWER_TIMEOUT, retries=1)
            self.service = Service(worker.app, worker.hostname, impatient)
        except NotConfigured as exc:
            self._refuse(exc)
        if self.dedicated:
            # calls that come from the worker's loop must not hold it up: it sends the heartbeats, too.
            # Beside tasks the calls are theirs, and as patient as anywhere
            use_store(worker.app, impatient)
        remote.install(impatient, beside_tasks=not self.dedicated)
        return self

    def start(self, worker: Any) -> None:
        assert self.service is not None
        if not self.dedicated:
            # after the pool: its processes are forked by now, and what comes begins without our threads
            self.service.start_beside_tasks(self._stop_worker)
            return
        if self.asked is not None:
            logger.warning(
                "expiry: --expiry and --no-expiry mean nothing to a worker with -P expiry, which fires "
                "timers and runs no task, and are ignored; for both leave out -P expiry",
                extra=log_fields("option_ignored"),
            )
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

    @staticmethod
    def _stop_worker(exc: NotConfigured) -> None:
        """The same where tasks may be running by now: a warm shutdown, from a thread of the service."""
        logger.critical("expiry: %s", exc, extra=log_fields("refused", reason=str(exc)))
        state.should_stop = 1


def _check_threads() -> None:
    """Refuse what makes greenlets of threads: a task that computes would hold all timers up."""
    environment = detect_environment()
    if environment != "default":
        raise NotConfigured(
            f"--expiry and expiry_in_worker don't go with the pool {environment}: start a worker with "
            "-P expiry beside it, and this one with --no-expiry"
        )


def _set_transport(app: Any, dedicated: bool) -> None:
    """Options of the broker connection that are right for who fires timers, whatever the app's own are."""
    by_driver: dict[str, dict[str, Any]] = {
        # Celery applies a canvas by the app's own producers: they must wait for confirms too
        "amqp": {"confirm_publish": True},
    }
    if dedicated:
        # at each connect kombu gives back to the queues, by the clock of this machine, what other workers
        # hold for longer. Who consumes nothing has no business there: an hour ahead, it ran tasks twice
        by_driver["redis"] = {"visibility_timeout": NEVER}
    options = by_driver.get(app.connection_for_write().transport.driver_type)
    if options:
        app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), **options}

"""Listener, pacer and dispatcher, put together: what an expiry worker runs."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.worker import state

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import store_of
from celery_redis_expiry.worker.applier import Applier
from celery_redis_expiry.worker.dispatcher import Dispatcher
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.listener import Listener
from celery_redis_expiry.worker.notifications import Notifications
from celery_redis_expiry.worker.pacer import Pacer
from celery_redis_expiry.worker.publishing import Publisher
from celery_redis_expiry.worker.settler import Settler

logger = logging.getLogger(__name__)

#: Seconds that a warm shutdown gives each part to finish what it is doing.
STOP_TIMEOUT = 15.0


class Service:
    """Everything of an expiry worker but Celery's own.

    Arguments:
        app: the Celery app.
        worker: the worker's node name.
    """

    def __init__(self, app: Any, worker: str) -> None:
        settings = Settings.of(app)
        self.app = app
        self.store = store_of(app)
        self.notifications = Notifications(
            self.store.location,
            self.store.keys,
            configure=settings.configure_notifications,
            follow=settings.follow_foreign_ttl,
        )
        lanes = Lanes()
        publisher = Publisher(app)
        self.applier = Applier(self.store, publisher, Settler(self.store, lanes, worker))
        self.dispatcher = Dispatcher(
            self.store,
            lanes,
            publisher,
            Settler(self.store, lanes, worker),
            self.applier,
            lease=settings.lease,
            batch=int(settings.batch_size),
        )
        self.pacer = Pacer(
            self.store, lanes, self.notifications, worker=worker, batch=int(settings.batch_size)
        )
        self.dispatcher.hungry = self.pacer.poke
        self.listener = Listener(
            self.store,
            lanes,
            self.notifications,
            self.pacer.poke,
            follow=settings.follow_foreign_ttl,
        )

    def start(self) -> None:
        """Start; waits for a Redis that can't be reached, as a worker waits for its broker.

        Raises:
            NamespaceTaken: this namespace is another app's or another broker's.
        """
        self._enter()
        # the listener first: what expires while the pacer reads the index must be heard
        for loop in (self.notifications, self.listener, self.applier, self.dispatcher, self.pacer):
            loop.start()
        self.notifications.settled.wait(3)
        counts = self.store.counts()
        logger.info(
            "expiry: watching %s, namespace %s: %d timers waiting, %d dead letters, notifications %s",
            self.store.location.url,
            self.store.keys.namespace_name,
            counts["waiting"],
            counts["dead"],
            "on" if self.notifications.on else "OFF (timers fire by the index, on time)",
        )

    def _enter(self) -> None:
        delay = 0.5
        while True:
            try:
                return self.store.enter(broker_identity(self.app))
            except StoreUnavailable as exc:
                logger.error("expiry: %s; trying again in %g s", exc, delay)
            resume = time.monotonic() + delay
            while time.monotonic() < resume:
                # a worker that waits here has not reached the loop in which Celery looks for signals
                state.maybe_shutdown()
                time.sleep(0.2)
            delay = min(30.0, delay * 2)

    def stop(self) -> None:
        """Warm shutdown: what is being published is finished.

        What takes longer than `STOP_TIMEOUT` stays claimed until its lease ends.
        """
        for loop in (self.listener, self.pacer, self.dispatcher, self.applier, self.notifications):
            if not loop.stop(STOP_TIMEOUT):
                logger.warning("expiry: the %s did not stop within %.0f s", loop.name, STOP_TIMEOUT)
        logger.info("expiry: stopped")


def broker_identity(app: Any) -> str:
    """Which broker messages go to, without credentials: what a namespace records."""
    connection = app.connection_for_write()
    transport = connection.transport
    virtual_host = str(connection.virtual_host or "").strip("/") or "0"
    primary = (connection.transport_options or {}).get("master_name")
    if primary:
        # several sentinels, in whatever order, know the same primary
        return f"{transport.driver_type}://{primary}/{virtual_host}"
    host = connection.hostname or "localhost"
    host = "localhost" if host in ("127.0.0.1", "::1") else host
    return (
        f"{transport.driver_type}://{host}:{connection.port or transport.default_port or ''}/{virtual_host}"
    )

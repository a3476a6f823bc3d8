"""Hearing, pacer and dispatcher, put together: what a worker runs that fires timers."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from celery.worker import state

from celery_redis_expiry.connections import locate
from celery_redis_expiry.errors import NotConfigured, StoreUnavailable
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Store, new_store
from celery_redis_expiry.worker.applier import Applier
from celery_redis_expiry.worker.beginning import Beginning
from celery_redis_expiry.worker.bounds import Bounds
from celery_redis_expiry.worker.dispatcher import Dispatcher
from celery_redis_expiry.worker.firing import InPlace
from celery_redis_expiry.worker.hearing import Hearing
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.pacer import Pacer
from celery_redis_expiry.worker.pruner import Pruner
from celery_redis_expiry.worker.publishing import Publisher
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.reporting.glance import Glance
from celery_redis_expiry.worker.reporting.metrics_server import MetricsServer
from celery_redis_expiry.worker.reporting.stats import block
from celery_redis_expiry.worker.settler import Settler
from celery_redis_expiry.worker.teller import Teller
from celery_redis_expiry.worker.watching import Watching

logger = logging.getLogger(__name__)

#: Seconds that a warm shutdown gives each part to finish what it is doing.
STOP_TIMEOUT = 15.0
#: Seconds for one attempt at a node of a Cluster.
NODE_TIMEOUT = 2.0
#: Seconds after which a thread lets another run Python, at most. With Python's own 5 ms, an answer
#: of Redis lies there for as long as five slices of a burst take it, while the listener reads.
SWITCH = 0.0005


class Service:
    """Everything of a worker that fires timers but Celery's own.

    Arguments:
        app: the Celery app.
        worker: the worker's node name.
        impatient: a store that gives up soon, for who only wants to know how many timers there are.
    """

    def __init__(self, app: Any, worker: str, impatient: Store) -> None:
        self.app = app
        self.worker = worker
        self.settings = Settings.of(app)
        self.store = _store(app)
        self.figures = Figures()
        self.loops: list[Loop] = []
        self._beginning: Beginning | None = None
        self._hearing: Hearing | None = None
        self._in_place: InPlace | None = None
        self._switch: float | None = None
        self._glance = Glance(impatient)
        self._metrics = MetricsServer(self.settings, self.figures, self._glance, self._notifications_on)

    def start(self) -> None:
        """Start; waits for a Redis that can't be reached, as a worker waits for its broker.

        Raises:
            NamespaceTaken: this namespace is another app's or another broker's.
            NotConfigured: it is cut into another number of shards than `expiry_shards` says.
        """
        # nobody's tasks run in this process
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH, self._switch))
        # while Redis is waited for, they say that it is
        self._metrics.start()
        self._enter()
        self._run()

    def start_beside_tasks(self, refuse: Callable[[NotConfigured], None]) -> None:
        """Start, but wait for Redis in a thread of our own: tasks must not wait with us.

        Arguments:
            refuse: called in that thread with what `start` would raise.
        """
        self._metrics.start()
        self._beginning = Beginning(self._begin, refuse)
        self._beginning.start()

    def _begin(self, stopping: threading.Event) -> None:
        """One attempt at what `start_beside_tasks` leaves to be done.

        Arguments:
            stopping: set where the worker stops meanwhile.

        Raises:
            StoreUnavailable: Redis can't be reached now.
            NamespaceTaken, NotConfigured: as `start` does.
        """
        self._enter_once()
        if not stopping.is_set():
            self._run()

    def _run(self) -> None:
        hearing = self._hearing = self._build()
        for loop in self.loops:
            loop.start()
        on = hearing.settle(3)
        logger.info(
            "expiry: watching %s, namespace %s%s: %s, notifications %s",
            self.store.location.url,
            self.store.namespace,
            f" in {len(self.store.shards)} shards" if len(self.store.shards) > 1 else "",
            self._counted(),
            "on" if on else "OFF (timers fire by the index, on time)",
            extra=log_fields("started"),
        )

    def stats(self) -> dict[str, Any]:
        """The block `expiry` of `celery inspect stats`."""
        return block(
            self.store,
            self._glance,
            self.figures.snapshot(),
            notifications=self._notifications_on(),
            not_in_place=self._in_place.why_not if self._in_place is not None else "it has not started",
        )

    def _notifications_on(self) -> bool:
        return self._hearing is not None and self._hearing.on

    def _counted(self) -> str:
        try:
            counts = self.store.counts()
        except StoreUnavailable as exc:
            return f"timers can't be counted now ({exc})"
        return f"{counts['waiting']} timers waiting, {counts['dead']} dead letters"

    def _build(self) -> Hearing:
        """Put the parts together, once the number of shards is known."""
        settings, store = self.settings, self.store
        lanes = Lanes(len(store.shards))
        bounds = Bounds(int(settings.dead_letter_limit), settings.dead_letter_age)
        pruner = Pruner()
        publisher = Publisher(self.app)

        def settler() -> Settler:
            return Settler(store, lanes, self.worker, bounds, self.figures)

        applier = Applier(store, publisher, settler())
        teller = Teller(self.app, self.figures)
        in_place = self._in_place = InPlace(
            self.app, store, publisher, lanes, self.figures, wanted=settings.fire_in_place
        )
        dispatcher = Dispatcher(
            store,
            lanes,
            publisher,
            settler(),
            applier,
            teller,
            in_place,
            Recurrence(self.app, self.figures),
            lease=settings.lease,
            batch=int(settings.batch_size),
        )
        own = _store(self.app)
        own.reckon_with(store)
        hearing = Hearing(
            own,
            lanes,
            configure=settings.configure_notifications,
            follow=settings.follow_foreign_ttl,
        )
        pacer = Pacer(
            store,
            lanes,
            hearing,
            worker=self.worker,
            batch=int(settings.batch_size),
            sweeps=(bounds.sweep, pruner.step),
            figures=self.figures,
            direct=lambda: in_place.possible,
            expect=in_place.expect,
        )
        hearing.poke = pacer.poke
        dispatcher.hungry = pacer.poke
        # the ears first: what expires while the pacer reads the index must be heard
        watched = _store(self.app)
        watched.reckon_with(store)
        watching = Watching(self.app, watched)
        hearing.watch = watching.hear
        self.loops = [hearing, teller, applier, dispatcher, pacer, watching]
        return hearing

    def _enter_once(self) -> None:
        if self.store.location.memory is not None:
            raise NotConfigured(
                f"{self.store.location.url} is for tests, in the process that schedules: an expiry worker is "
                "another one. Set expiry_redis_url to a Redis"
            )
        self.store.enter(broker_identity(self.app))

    def _enter(self) -> None:
        delay = 0.5
        while True:
            try:
                return self._enter_once()
            except StoreUnavailable as exc:
                logger.error(
                    "expiry: %s; trying again in %g s",
                    exc,
                    delay,
                    extra=log_fields("redis_lost", part="start", reason=str(exc)),
                )
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
        # first what may be starting the others just now
        if self._beginning is not None:
            self._stop(self._beginning)
        for loop in reversed(self.loops):
            self._stop(loop)
        self._metrics.stop()
        if self._switch is not None:
            sys.setswitchinterval(self._switch)
        logger.info(
            "expiry: stopped. What waits fires when an expiry worker runs", extra=log_fields("stopped")
        )

    @staticmethod
    def _stop(loop: Loop) -> None:
        if not loop.stop(STOP_TIMEOUT):
            logger.warning(
                "expiry: the %s did not stop within %.0f s. What it has claimed fires when its lease "
                "ends, if another expiry worker runs",
                loop.name,
                STOP_TIMEOUT,
                extra=log_fields("not_stopped", part=loop.name),
            )


def _store(app: Any) -> Store:
    """A way to Redis of our own: where a node of a Cluster hangs, the other shards wait for it."""
    return new_store(app, timeout=NODE_TIMEOUT, retries=1) if locate(app).cluster else new_store(app)


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

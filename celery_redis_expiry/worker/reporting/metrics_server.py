"""Serves the metrics over HTTP. Where it can't, the worker says so and fires all the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.reporting.glance import Glance

logger = logging.getLogger(__name__)

#: Seconds that the server has to stop.
STOP_TIMEOUT = 5.0


class MetricsServer:
    """From a registry of its own: the metrics of the app stay the app's.

    Arguments:
        settings: say where it listens, if at all (`expiry_metrics_port`).
        The others: see `ExpiryCollector`.
    """

    def __init__(
        self, settings: Settings, figures: Figures, glance: Glance, notifications: Callable[[], bool]
    ) -> None:
        self._host = settings.metrics_host
        self._port = settings.metrics_port
        self._sources = figures, glance, notifications
        self._server: Any = None
        self._thread: Any = None

    def start(self) -> None:
        """Serve, or log why not: a worker that fires without metrics is better than none."""
        if self._port is None:
            return
        try:
            from prometheus_client import CollectorRegistry, start_http_server

            from celery_redis_expiry.worker.reporting.metrics import ExpiryCollector
        except ImportError as exc:
            logger.error(
                "expiry: no metrics, although expiry_metrics_port is %d: %s. "
                "Remedy: pip install 'celery-redis-expiry[prometheus]'. Timers fire all the same",
                self._port,
                exc,
                extra=log_fields("no_metrics", reason=str(exc)),
            )
            return
        registry = CollectorRegistry()
        registry.register(ExpiryCollector(*self._sources))
        try:
            self._server, self._thread = start_http_server(int(self._port), self._host, registry)
        except OSError as exc:
            logger.error(
                "expiry: no metrics, since %s:%d can't be listened on: %s. Remedy: another "
                "expiry_metrics_port (each worker of a machine needs its own) or expiry_metrics_host. "
                "Timers fire all the same",
                self._host,
                self._port,
                exc,
                extra=log_fields("no_metrics", reason=str(exc)),
            )
            return
        # processes that are forked from now on would keep the port when this one is gone
        os.register_at_fork(after_in_child=self._server.socket.close)
        host = f"[{self._host}]" if ":" in self._host else self._host
        logger.info(
            "expiry: metrics at http://%s:%d/metrics",
            host,
            self._server.server_port,
            extra=log_fields("metrics_served"),
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(STOP_TIMEOUT)

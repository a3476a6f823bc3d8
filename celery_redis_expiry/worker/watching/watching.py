"""All that an expiry worker watches."""

from __future__ import annotations

import time
from typing import Any

from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.watching.watch import watches_of
from celery_redis_expiry.worker.watching.watcher import Watcher


class Watching(Loop):
    """Keeps a watcher for each pattern in each Redis; without handlers there is nothing to do.

    Arguments:
        store: with a way to the timers' Redis that nothing else uses.
    """

    name = "watching"

    def __init__(self, app: Any, store: Store) -> None:
        super().__init__()
        settings = Settings.of(app)
        self._store = store
        self._watchers = [
            Watcher(
                app,
                store,
                watch,
                configure=settings.configure_notifications,
                limit=int(settings.watch_limit),
            )
            for watch in watches_of(app)
        ]

    def start(self) -> None:
        if self._watchers:
            super().start()

    def one_pass(self) -> None:
        # once: where a right is missing this raises, and is tried again
        self._store.permit("watcher")
        for watcher in self._watchers:
            watcher.start()
        self.stopping.wait()

    def stop(self, timeout: float) -> bool:
        for watcher in self._watchers:
            watcher.stop(0)
        deadline = time.monotonic() + timeout
        ended = [loop.stop(max(0.0, deadline - time.monotonic())) for loop in self._watchers]
        return all(ended) and super().stop(max(0.0, deadline - time.monotonic()))

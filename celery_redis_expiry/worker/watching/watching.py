"""All that an expiry worker watches."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.watching.field_watcher import FieldWatcher
from celery_redis_expiry.worker.watching.key_watcher import EVERY, KeyWatcher
from celery_redis_expiry.worker.watching.watch import watch_of_keys, watches_of
from celery_redis_expiry.worker.watching.watcher import Watcher


class Watching(Loop):
    """Keeps a watcher for each pattern in each Redis, and one for the keys that timers wait for, if any does.

    Arguments:
        store: with a way to the timers' Redis that nothing else uses.
    """

    name = "watching"

    def __init__(self, app: Any, store: Store) -> None:
        super().__init__()
        settings = Settings.of(app)
        self._store = store
        configure, limit = settings.configure_notifications, int(settings.watch_limit)
        self._watchers: list[Watcher] = [
            (Watcher if watch.field is None else FieldWatcher)(
                app, store, watch, configure=configure, limit=limit
            )
            for watch in watches_of(app)
        ]
        self._keys = KeyWatcher(app, store, watch_of_keys(app), configure=configure, limit=limit)
        self._again = threading.Event()
        self._started = False

    def hear(self, shard: int, member: str) -> None:
        """A timer that waits for a key was scheduled. Called by another thread."""
        self._keys.hear(shard, member)
        self._again.set()

    def interrupt(self) -> None:
        self._again.set()

    def one_pass(self) -> None:
        if not self._started:
            if self._watchers:
                # where a right is missing this raises, and is tried again
                self._store.permit("watcher")
            self._started = True
            for watcher in self._watchers:
                watcher.start()
        if self._keys not in self._watchers and self._any_key_timer():
            self._store.permit("watcher")
            self._watchers.append(self._keys)
            self._keys.start()
        self._again.wait(EVERY if self._keys not in self._watchers else None)
        self._again.clear()

    def _any_key_timer(self) -> bool:
        # where Redis is away others say so; where the right to count is missing nobody can wait for a key
        with suppress(StoreUnavailable):
            return self._store.key_timers() > 0
        return False

    def stop(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        ended = super().stop(timeout)
        for watcher in self._watchers:
            watcher.stop(0)
        left = [loop.stop(max(0.0, deadline - time.monotonic())) for loop in self._watchers]
        return ended and all(left)

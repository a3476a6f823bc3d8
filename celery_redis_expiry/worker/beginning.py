"""Beginning beside tasks: the service waits for its Redis in a thread, since tasks must not wait with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.worker.loop import Loop


class Beginning(Loop):
    """One pass: an attempt to begin. The last is the one that Redis answers.

    Arguments:
        begin: raises StoreUnavailable where Redis does not answer. Its argument is set when the worker stops.
        refuse: called with the NotConfigured that it raises; there is no other attempt.
    """

    name = "start"

    def __init__(
        self, begin: Callable[[threading.Event], None], refuse: Callable[[NotConfigured], None]
    ) -> None:
        super().__init__()
        self._begin = begin
        self._refuse = refuse

    def one_pass(self) -> None:
        try:
            self._begin(self.stopping)
        except NotConfigured as exc:
            self._refuse(exc)
        self.stopping.set()

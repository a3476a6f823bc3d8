"""A thread that repeats one pass until it is stopped, and outlives whatever the pass raises."""

from __future__ import annotations

import logging
import threading

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.worker.backoff import STORE, backoff

logger = logging.getLogger(__name__)


class Loop:
    """Base of the worker's threads: `one_pass` is theirs, and can be tested without a thread."""

    name = "loop"

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def one_pass(self) -> None:
        """Do what is to do now, then wait a bounded time for more."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Called by `stop`: end the waiting of `one_pass`."""

    def close(self) -> None:
        """Called in the thread after the last pass."""

    def start(self) -> None:
        """Start the thread, once: nothing in a loop expects another thread to do the same."""
        assert self._thread is None, f"the {self.name} runs already"
        self._thread = threading.Thread(target=self._run, name=f"expiry-{self.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Ask the thread to end; returns whether it did within `timeout` seconds."""
        self.stopping.set()
        self.interrupt()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            try:
                self.one_pass()
            except StoreUnavailable as exc:
                log = logger.warning if failures == 0 else logger.debug
                log(
                    "expiry %s: %s; trying again until it answers",
                    self.name,
                    exc,
                    extra=log_fields("redis_lost", part=self.name, reason=str(exc)),
                )
            except Exception as exc:
                logger.exception(
                    "expiry %s: unexpected error, going on: please report it",
                    self.name,
                    extra=log_fields("unexpected", part=self.name, reason=repr(exc)),
                )
            else:
                if failures:
                    logger.info(
                        "expiry %s: Redis answers again",
                        self.name,
                        extra=log_fields("redis_back", part=self.name),
                    )
                failures = 0
                continue
            self.stopping.wait(backoff(STORE, failures))
            failures += 1
        try:
            self.close()
        except Exception as exc:
            logger.debug("expiry %s: closing: %r", self.name, exc)

"""How long some claimed timers are ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Claimed

logger = logging.getLogger(__name__)


class Lease:
    """The lease of one claim, on the monotonic clock: a process that was stopped finds it over.

    Arguments:
        token: of the claim.
        seconds: for which it holds.
        began: when the claim was asked for, so that Redis's own count can only end later.

    Attributes:
        also: other leases, to be kept up when this one is prolonged: of what waits for its end.
    """

    def __init__(
        self, store: Store, token: str, claims: Sequence[Claimed], seconds: float, began: float
    ) -> None:
        self.seconds = seconds
        self.also: Callable[[], Iterable[Lease]] = tuple
        self._store = store
        self._token = token
        self._claims = claims
        self._ends = began + seconds
        self._lost: set[str] = set()

    def holds(self, claim: Claimed) -> bool:
        """Whether a timer that is not sent yet is still ours to send."""
        return time.monotonic() < self._ends and claim.member not in self._lost

    def keep_up(self) -> None:
        """Prolong it when a third has passed; cheap enough to be called before each message."""
        if time.monotonic() > self._ends - 2 / 3 * self.seconds:
            self.prolong()

    def prolong(self) -> bool:
        """Hold on to it for another while; False if nothing of it is ours any more."""
        began = time.monotonic()
        for lease in self.also():
            lease.keep_up()
        try:
            self._lost = self._store.prolong(self._token, self._claims, self.seconds)
        except StoreUnavailable as exc:
            logger.debug("expiry: a lease could not be prolonged: %s", exc)
            return time.monotonic() < self._ends
        self._ends = began + self.seconds
        return len(self._lost) < len(self._claims)

    @contextmanager
    def kept(self, also: Callable[[], Iterable[Lease]]) -> Iterator[None]:
        """Prolong it in the background, and others with it, for as long as what is done with it takes."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(self.seconds / 6):
                for lease in (self, *also()):
                    lease.keep_up()

        thread = threading.Thread(target=keep, name="expiry-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

"""How long some claimed timers are ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

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
    """

    def __init__(
        self, store: Store, token: str, claims: Sequence[Claimed], seconds: float, began: float
    ) -> None:
        self.seconds = seconds
        self._store = store
        self._token = token
        self._claims = claims
        self._ends = began + seconds

    @property
    def over(self) -> bool:
        """Whether what is not sent by now is no longer ours to send."""
        return time.monotonic() > self._ends

    def prolong(self) -> bool:
        """Hold on to it for another while; False if it is lost."""
        began = time.monotonic()
        try:
            held = self._store.prolong(self._token, self._claims, self.seconds)
        except StoreUnavailable as exc:
            logger.debug("expiry: a lease could not be prolonged: %s", exc)
            return not self.over
        if held:
            self._ends = began + self.seconds
        return bool(held)

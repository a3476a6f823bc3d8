"""A batch of timers on its way from the lanes to the broker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Claims, Store
from celery_redis_expiry.worker.publishing import Lease

#: Members, each with whether an event said that its trigger key expired.
Members = Sequence[tuple[str, bool]]


class Batch:
    """Timers of one shard that were taken from the lanes, and the claim of them.

    Attributes:
        taken: what was taken.
        token: of the claim; "" while there is none.
    """

    def __init__(self, shard: int, taken: Members) -> None:
        self.shard = shard
        self.taken = taken
        self.token = ""
        self._began = 0.0
        self._claims: Future[Claims] | None = None
        self._lease: Lease | None = None

    @property
    def members(self) -> list[str]:
        return [member for member, _ in self.taken]

    def claim(self, pool: ThreadPoolExecutor, store: Store, seconds: float) -> None:
        """Let them be claimed for so long, by a thread of the pool."""
        self.token, self._began = new_token(), time.monotonic()
        where = store.shards[self.shard]

        def claim() -> Claims:
            claims = where.claim(self.taken, token=self.token, lease=seconds)
            self._lease = Lease(store, self.token, claims, seconds, self._began)
            return claims

        self._claims = pool.submit(claim)

    @property
    def asked(self) -> bool:
        """Whether the claim was asked for."""
        return self._claims is not None

    def claimed(self) -> tuple[Claims, Lease]:
        """What was, and for how long it is ours. Raises what claiming does."""
        assert self._claims is not None
        claims = self._claims.result()
        assert self._lease is not None
        return claims, self._lease

    def leases(self) -> list[Lease]:
        """The lease, once it is known."""
        return [] if self._lease is None else [self._lease]

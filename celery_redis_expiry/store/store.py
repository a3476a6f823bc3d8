"""The timers of one namespace, over a link that blocks: for users' calls, workers and operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.blocking import run
from celery_redis_expiry.store.operators import Operators
from celery_redis_expiry.timer import Claimed, Outcome, Request, Timer


class Store(Operators):
    """All timers of a namespace."""

    # -- what users' calls do: see `Calls`

    def schedule(self, requests: Sequence[Request]) -> list[Outcome]:
        return run(self.calls.schedule(requests))

    def get(self, target: str, *, by_name: bool = True) -> Timer | None:
        return run(self.calls.get(target, by_name=by_name))

    def cancel(self, target: str, *, by_name: bool = True) -> str | None:
        return run(self.calls.cancel(target, by_name=by_name))

    def waiting_of(self, ids: Sequence[str]) -> list[str]:
        return run(self.calls.waiting_of(ids))

    # -- what an expiry worker does to what it has claimed: always of one shard

    def ack(self, token: str, claims: Sequence[Claimed]) -> int:
        """See `Workers.ack`."""
        return self.shards[claims[0].shard].ack(token, claims) if claims else 0

    def release(self, token: str, claims: Sequence[Claimed], **how: Any) -> int:
        """See `Workers.release`."""
        return self.shards[claims[0].shard].release(token, claims, **how) if claims else 0

    def prolong(self, token: str, claims: Sequence[Claimed], lease: float) -> set[str]:
        """See `Workers.prolong`."""
        return self.shards[claims[0].shard].prolong(token, claims, lease) if claims else set()

    def bury(self, claim: Claimed, reason: str, origin: str) -> bool:
        """See `Workers.bury`."""
        return self.shards[claim.shard].bury(claim, reason, origin)

    def enter(self, broker: str, *, adopt: bool = False) -> None:
        """Record whose namespace this is, in each shard. See `Namespace.enter`."""
        self._record("operator" if adopt else "worker")
        with self._recut() as current:
            for shard in self.shards:
                shard.enter(broker, adopt=adopt)
        if not current():
            raise self.calls.restless()

"""The dispatcher: claims due timers, unless their guards call them off, publishes them, acknowledges.

Those whose queue lies beside them it fires in place instead, in one step.

A crash between these steps is repaired by the lease's end: the timer is recovered and published again, under
the same task id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from celery_redis_expiry.errors import StoreUnavailable, StoreUnreachable
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import SLICE, Recurs, Store
from celery_redis_expiry.timer import Claimed, Undecodable
from celery_redis_expiry.worker.applier import Applier
from celery_redis_expiry.worker.backoff import backoff
from celery_redis_expiry.worker.batch import Batch
from celery_redis_expiry.worker.firing import InPlace
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.outages import Outages
from celery_redis_expiry.worker.publishing import BrokerUnavailable, Lease, Parcel, Publisher
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.settler import ACK_AGAIN, Settler
from celery_redis_expiry.worker.teller import Teller

logger = logging.getLogger(__name__)

#: Seconds between attempts to reach the broker: doubled each time, from the first to the second.
RECONNECT = (0.2, 5.0)
#: Seconds that a batch should take, since what falls due meanwhile waits: a slow broker gets smaller ones.
TURN = 0.1
SMALLEST = 20
#: How many are claimed by one script, which holds Redis for as long as they take.
TOGETHER = 200
#: Seconds after which firing in place is considered again, though batch follows upon batch.
ASK_AGAIN = 5.0
#: Seconds of a wait for work.
PATIENCE = 60.0


class Dispatcher(Loop):
    """One pass: take a batch of one shard from the lanes, claim it, publish it, ack it.

    The next batch is claimed meanwhile.

    Arguments:
        lease: seconds for which a claim holds.
        batch: how many timers at most are claimed and published together.

    Attributes:
        hungry: called with a shard when its index has more for it, perhaps `after` some seconds.
    """

    name = "dispatcher"

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        publisher: Publisher,
        settler: Settler,
        applier: Applier,
        teller: Teller,
        in_place: InPlace,
        recurrence: Recurrence,
        *,
        lease: float,
        batch: int,
    ) -> None:
        super().__init__()
        self.hungry: Callable[..., None] = lambda shard, after=0.0: None
        self._store = store
        self._lanes = lanes
        self._publisher = publisher
        self._settler = settler
        self._applier = applier
        self._teller = teller
        self._in_place = in_place
        self._recurrence = recurrence
        self._lease = lease
        self._batch = self._size = batch
        self._broker_failures = 0
        self._outages = Outages(self.name, len(store.shards))
        self._claims = ThreadPoolExecutor(1, "expiry-claiming")
        self._ahead: Batch | None = None
        self._asked = 0.0

    def interrupt(self) -> None:
        self._lanes.close()

    def close(self) -> None:
        self._give_back()
        self._claims.shutdown()
        self._publisher.close()

    def one_pass(self) -> None:
        self._settler.ack_again()
        patience = ACK_AGAIN if self._settler.owes else PATIENCE
        if (self._ahead is None and not self._lanes.wait(patience)) or self.stopping.is_set():
            return
        # before claiming: what can't be published is better left to a worker that can
        if not self._broker_answers():
            return
        batch, self._ahead = self._ahead or self._take(), None
        began = time.monotonic()
        try:
            gave_back = self._dispatch(batch)
            self._outages.answered(batch.shard)
        except StoreUnavailable as exc:
            # their events are used up: only the index knows of them now. The other shards go on
            delay = self._outages.failed(batch.shard, exc)
            beside = self._store.beside(batch.shard)
            for each in beside if isinstance(exc, StoreUnreachable) else [batch.shard]:
                self._lanes.rest(each, delay)
                self.hungry(each, after=delay)
            return
        except BaseException:
            self._lanes.done(batch.shard, batch.members)
            self.hungry(batch.shard)
            raise
        if not self._in_place.possible:
            self._adapt(len(batch.taken), time.monotonic() - began)
        self._lanes.done(batch.shard, batch.members)
        if gave_back or self._lanes.lacks(batch.shard):
            self.hungry(batch.shard)

    def _adapt(self, count: int, took: float) -> None:
        """A slow broker gets smaller batches. One that has few timers says little of those that have many."""
        size = max(SMALLEST, int(count * TURN / took))
        self._size = min(self._batch, size if took > TURN else max(size, self._size))

    def _take(self) -> Batch:
        # of many that fire in place the index tells, as of what has just fallen due, which is not to wait for
        # those that events told of. What can't be fired in place is claimed by one script
        in_place = self._in_place.possible
        # what a slow broker takes says nothing of that
        most = min(self._batch, SLICE) if in_place else min(self._size, TOGETHER)
        return Batch(*self._lanes.take(most))

    def _dispatch(self, batch: Batch, *, more: bool = True) -> bool:
        """Fire in place what can be; claim, publish, ack the rest.

        Arguments:
            more: whether what else is due may be fired in place with it.

        Returns:
            Whether some of what was claimed is in the index again, or due anew.
        """
        if batch.asked:
            return self._see_through(batch)
        left = self._in_place.fire(self._store.shards[batch.shard], batch.taken, more=more)
        self._asked = time.monotonic()
        gave_back = False
        for start in range(0, len(left), TOGETHER):
            part = Batch(batch.shard, left[start : start + TOGETHER])
            part.claim(self._claims, self._store, self._lease)
            gave_back |= self._see_through(part)
        return gave_back

    def _see_through(self, batch: Batch) -> bool:
        """Publish and ack what is claimed, first what has no guard; returns as `_dispatch` does."""
        claims, lease = batch.claimed()
        self._look_ahead()
        if self._lanes.lacks(batch.shard):
            self.hungry(batch.shard)
        gave_back = self._publish(batch.token, claims, lease)
        if claims.guarded:
            token, began = new_token(), time.monotonic()
            allowed = self._store.shards[batch.shard].claim_guarded(
                claims.guarded, token=token, lease=self._lease
            )
            self._teller.called_off(allowed.called_off)
            lease = Lease(self._store, token, allowed, self._lease, began)
            gave_back |= self._publish(token, allowed, lease)
        if claims.recurring:
            self._recur(batch.shard, claims.recurring)
            # it keeps its member: what told of its next instant meanwhile was taken for this one
            gave_back = True
        return gave_back

    def _recur(self, shard: int, due: Sequence[Recurs]) -> None:
        """Arm recurring timers anew, and dispatch their occurrences: from there on timers like any other."""
        where = self._store.shards[shard]
        occurrences, broken = self._recurrence.occurrences(where, due)
        if broken:
            token = new_token()
            for claim in where.claim_broken(broken, token=token, lease=self._lease):
                self._settler.bury(claim, str(claim.stored))
        if occurrences:
            # what is due beside them may recur as well, and so on
            self._dispatch(Batch(shard, occurrences), more=False)

    def _look_ahead(self) -> None:
        """Let the next batch be claimed while this one is published; in place nothing is waited for."""
        may_be_in_place = self._in_place.possible or time.monotonic() > self._asked + ASK_AGAIN
        if self._ahead or may_be_in_place or self.stopping.is_set() or not self._lanes.wait(0):
            return
        self._ahead = ahead = self._take()
        ahead.claim(self._claims, self._store, self._lease)

    def _give_back(self) -> None:
        """What was claimed ahead is better left to a worker that can publish it."""
        batch, self._ahead = self._ahead, None
        if batch is None:
            return
        try:
            claims, _ = batch.claimed()
            self._store.release(batch.token, claims)
        except StoreUnavailable as exc:
            logger.debug("expiry: what was claimed fires when its lease ends: %s", exc)
        finally:
            self._lanes.done(batch.shard, batch.members)
            self.hungry(batch.shard)

    def _publish(self, token: str, claims: list[Claimed], lease: Lease) -> bool:
        """Publish and ack what was claimed; returns whether some of it is in the index again."""
        parcels = self._pack(token, claims)
        unread = [parcel for parcel in parcels if parcel.outcome]
        self._settler.settle(token, unread)
        parcels = [parcel for parcel in parcels if not parcel.outcome]
        if not parcels:
            return bool(unread)
        messages = [parcel for parcel in parcels if not parcel.is_canvas]
        canvases = [parcel for parcel in parcels if parcel.is_canvas]
        # what is claimed ahead waits as long
        lease.also = lambda: self._ahead.leases() if self._ahead is not None else ()
        try:
            self._publisher.publish(messages, lease)
        finally:
            lease.also = tuple
            # whatever happened, what was published is acked, and nothing stays claimed that was not sent
            self._settler.settle(token, messages)
        if canvases:
            self._applier.take(token, lease, canvases)
        outcomes = {parcel.outcome for parcel in messages}
        if "published" in outcomes:
            self._broker_takes()
        elif outcomes & {"unsent", "unknown"}:
            # due in the index again; without a wait, a broker that answers but takes nothing is hammered
            self._wait_for_broker(next(parcel.reason for parcel in messages if parcel.reason))
        return bool(unread or outcomes - {"published", "refused"})

    def _pack(self, token: str, claims: list[Claimed]) -> list[Parcel]:
        parcels = []
        published = self._lanes.were_published(claim.member for claim in claims)
        for claim in claims:
            stored = claim.stored
            if isinstance(stored, Undecodable):
                self._settler.bury(claim, str(stored))
            elif claim.member in published and self._publisher.is_apart(self._store):
                # recovered after a lease in which Redis could not be told: the broker has it
                self._settler.ack(token, [claim])
            else:
                parcel = Parcel(stored, claim)
                if claim.problem:
                    parcel.settle("failed", claim.problem)
                parcels.append(parcel)
        return parcels

    def _broker_answers(self) -> bool:
        try:
            self._publisher.connect()
        except BrokerUnavailable as exc:
            self._wait_for_broker(str(exc))
            return False
        return True

    def _broker_takes(self) -> None:
        if self._broker_failures:
            logger.info("expiry: the broker takes messages again", extra=log_fields("broker_back"))
        self._broker_failures = 0

    def _wait_for_broker(self, reason: str) -> None:
        log = logger.warning if self._broker_failures == 0 else logger.debug
        log(
            "expiry: the broker takes nothing (%s); what is due stays in Redis until it does",
            reason,
            extra=log_fields("broker_lost", reason=reason),
        )
        self._give_back()
        self.stopping.wait(backoff(RECONNECT, self._broker_failures))
        self._broker_failures += 1

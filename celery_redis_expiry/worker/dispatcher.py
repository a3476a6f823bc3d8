"""The dispatcher: claims due timers, unless their guards call them off, publishes them, acknowledges.

Those whose queue lies beside them it fires in place instead, in one step.

A crash between these steps is repaired by the lease's end: the timer is recovered and published again, under
the same task id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from celery_redis_expiry.errors import StoreUnavailable, StoreUnreachable
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Recurs, Shard, Store
from celery_redis_expiry.timer import Claimed, Undecodable
from celery_redis_expiry.worker.applier import Applier
from celery_redis_expiry.worker.backoff import backoff
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
SLICE = 0.1
SMALLEST = 20
#: Seconds of a wait for work.
PATIENCE = 60.0


class Dispatcher(Loop):
    """One pass: take a batch of one shard from the lanes, claim it, publish it, ack it.

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

    def interrupt(self) -> None:
        self._lanes.close()

    def close(self) -> None:
        self._publisher.close()

    def one_pass(self) -> None:
        self._settler.ack_again()
        if not self._lanes.wait(ACK_AGAIN if self._settler.owes else PATIENCE) or self.stopping.is_set():
            return
        # before claiming: what can't be published is better left to a worker that can
        if not self._broker_answers():
            return
        shard, taken = self._lanes.take(self._size)
        began = time.monotonic()
        try:
            gave_back = self.dispatch(shard, taken)
            self._outages.answered(shard)
        except StoreUnavailable as exc:
            # their events are used up: only the index knows of them now. The other shards go on
            delay = self._outages.failed(shard, exc)
            resting = self._store.beside(shard) if isinstance(exc, StoreUnreachable) else [shard]
            for each in resting:
                self._lanes.rest(each, delay)
                self.hungry(each, after=delay)
            return
        except BaseException:
            self._lanes.done(shard, [member for member, _ in taken])
            self.hungry(shard)
            raise
        took = time.monotonic() - began
        self._size = min(self._batch, max(SMALLEST, int(len(taken) * SLICE / took)))
        empty = self._lanes.done(shard, [member for member, _ in taken])
        if gave_back or (empty and not all(expired for _, expired in taken)):
            self.hungry(shard)

    def dispatch(self, shard: int, members: Sequence[tuple[str, bool]]) -> bool:
        """Fire in place what can be; claim, publish, ack the rest, first those that have no guard.

        Arguments:
            shard: whose timers these are.
            members: each with whether an event said that its trigger key expired.

        Returns:
            Whether some of what was claimed is in the index again.
        """
        where = self._store.shards[shard]
        members = self._in_place.fire(where, members)
        if not members:
            return False
        token, began = new_token(), time.monotonic()
        claims = where.claim(members, token=token, lease=self._lease)
        gave_back = self._publish(token, claims, began)
        if claims.guarded:
            token, began = new_token(), time.monotonic()
            allowed = where.claim_guarded(claims.guarded, token=token, lease=self._lease)
            self._teller.called_off(allowed.called_off)
            gave_back |= self._publish(token, allowed, began)
        if claims.recurring:
            gave_back |= self._recur(where, claims.recurring)
        return gave_back

    def _recur(self, where: Shard, due: Sequence[Recurs]) -> bool:
        """Arm recurring timers anew, and dispatch their occurrences: from there on timers like any other."""
        occurrences, broken = self._recurrence.occurrences(where, due)
        if broken:
            token = new_token()
            for claim in where.claim_broken(broken, token=token, lease=self._lease):
                self._settler.bury(claim, str(claim.stored))
        return bool(occurrences) and self.dispatch(where.number, occurrences)

    def _publish(self, token: str, claims: list[Claimed], began: float) -> bool:
        """Publish and ack what was claimed; returns whether some of it is in the index again."""
        parcels = self._pack(token, claims)
        unread = [parcel for parcel in parcels if parcel.outcome]
        self._settler.settle(token, unread)
        parcels = [parcel for parcel in parcels if not parcel.outcome]
        if not parcels:
            return bool(unread)
        lease = Lease(self._store, token, claims, self._lease, began)
        messages = [parcel for parcel in parcels if not parcel.is_canvas]
        canvases = [parcel for parcel in parcels if parcel.is_canvas]
        try:
            self._publisher.publish(messages, lease)
        finally:
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
        for claim in claims:
            stored = claim.stored
            if isinstance(stored, Undecodable):
                self._settler.bury(claim, str(stored))
            elif self._lanes.was_published(claim.member) and self._publisher.is_apart(self._store):
                # recovered after a lease in which Redis could not be told: the broker has it
                self._settler.ack(token, [claim])
            else:
                parcel = Parcel(stored.content, claim.due, claim, template=stored.template)
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
        self.stopping.wait(backoff(RECONNECT, self._broker_failures))
        self._broker_failures += 1

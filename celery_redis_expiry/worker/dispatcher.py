"""The dispatcher: claims due timers, publishes them, acknowledges.

A crash between these steps is repaired by the lease's end: the timer is recovered and published again, under
the same task id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Claimed, Stored, Undecodable
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.publishing import BrokerUnavailable, Lease, Parcel, Publisher

logger = logging.getLogger(__name__)

#: Seconds until a message that was not taken is tried again: doubled each time, from the first to the second.
RETRY = (1.0, 300.0)
#: Seconds between attempts to reach the broker, likewise.
RECONNECT = (0.2, 5.0)
#: Seconds that a batch should take, since what falls due meanwhile waits: a slow broker gets smaller ones.
SLICE = 0.1
SMALLEST = 20
#: Seconds of a wait for work.
PATIENCE = 60.0


class Dispatcher(Loop):
    """One pass: take a batch from the lanes, claim it, publish it, ack it.

    Arguments:
        lease: seconds for which a claim holds.
        batch: how many timers are claimed and published together.
        worker: its name, for the dead letters.

    Attributes:
        hungry: called when the backlog's lane has run empty.
    """

    name = "dispatcher"

    def __init__(
        self, store: Store, lanes: Lanes, publisher: Publisher, *, lease: float, batch: int, worker: str
    ) -> None:
        super().__init__()
        self.hungry: Callable[[], None] = lambda: None
        self._store = store
        self._lanes = lanes
        self._publisher = publisher
        self._lease = lease
        self._batch = batch
        self._worker = worker
        self._size = batch
        self._broker_failures = 0
        # published, but Redis did not answer when they were acked: by the token of their claim
        self._unacked: dict[str, list[Claimed]] = {}

    def interrupt(self) -> None:
        self._lanes.close()

    def close(self) -> None:
        self._publisher.close()

    def one_pass(self) -> None:
        self._ack_again()
        if not self._lanes.wait(PATIENCE) or self.stopping.is_set():
            return
        # before claiming: what can't be published is better left to a worker that can
        if not self._broker_answers():
            return
        taken = self._lanes.take(self._size)
        began = time.monotonic()
        try:
            gave_back = self.dispatch(taken)
        except BaseException:
            # their events are used up: only the index knows of them now
            self._lanes.done(member for member, _ in taken)
            self.hungry()
            raise
        took = time.monotonic() - began
        self._size = max(SMALLEST, min(self._batch, int(len(taken) * SLICE / took)))
        empty = self._lanes.done(member for member, _ in taken)
        if gave_back or (empty and not all(expired for _, expired in taken)):
            self.hungry()

    def dispatch(self, members: list[tuple[str, bool]]) -> bool:
        """Claim, publish, ack.

        Arguments:
            members: each with whether an event said that its trigger key expired.

        Returns:
            Whether some of what was claimed is in the index again.
        """
        token = new_token()
        began = time.monotonic()
        claims = self._store.claim(members, token=token, lease=self._lease)
        parcels = self._pack(token, claims)
        if not parcels:
            return False
        lease = Lease(self._store, token, claims, self._lease, began)
        messages = [parcel for parcel in parcels if not parcel.is_canvas]
        canvases = [parcel for parcel in parcels if parcel.is_canvas]
        try:
            self._publisher.publish(messages, lease)
        finally:
            # whatever happened, what was published is acked, and nothing stays claimed that was not sent
            self._settle(token, messages)
        if canvases:
            # a canvas may be thousands of messages: each is acked when it is applied, and none has to hurry
            with lease.kept():
                for parcel in canvases:
                    self._publisher.apply(parcel, lease)
                    self._settle(token, [parcel])
        return any(parcel.outcome not in ("published", "refused") for parcel in parcels)

    def _pack(self, token: str, claims: list[Claimed]) -> list[Parcel]:
        parcels = []
        for claim in claims:
            try:
                stored = Stored.decode(claim.record)
            except Undecodable as exc:
                claim.id = claim.label
                self._bury(claim, str(exc))
                continue
            claim.id = stored.id
            if self._lanes.was_published(claim.member):
                # recovered after a lease in which Redis could not be told: the broker has it
                self._ack(token, [claim])
            else:
                parcels.append(Parcel(stored.content, claim.due, claim))
        return parcels

    def _settle(self, token: str, parcels: list[Parcel]) -> None:
        by_outcome: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            by_outcome.setdefault(parcel.outcome or "unsent", []).append(parcel)
        published = [parcel.claim for parcel in by_outcome.get("published", ())]
        if published:
            self._broker_failures = 0
            self._lanes.published(claim.member for claim in published)
            self._ack(token, published)
        self._store.release(token, [parcel.claim for parcel in by_outcome.get("unsent", ())])
        unknown = by_outcome.get("unknown", [])
        if unknown:
            logger.warning(
                "expiry: the broker's answer to %d messages was lost (timer %s: %s): "
                "they are published again under their task ids",
                len(unknown),
                unknown[0].claim.label,
                unknown[0].reason,
            )
        self._store.release(token, [parcel.claim for parcel in unknown])
        self._postpone(token, by_outcome.get("failed", []))
        for parcel in by_outcome.get("refused", ()):
            self._bury(parcel.claim, parcel.reason)
        if "stalled" in by_outcome:
            logger.warning(
                "expiry: %d timers were not published: this worker stalled beyond their lease",
                len(by_outcome["stalled"]),
            )
        if not published and ("unsent" in by_outcome or "unknown" in by_outcome):
            # due in the index again; without a wait, a broker that answers but takes nothing is hammered
            self._wait_for_broker(by_outcome.get("unknown", by_outcome.get("unsent", []))[0].reason)
            self.hungry()

    def _postpone(self, token: str, failed: list[Parcel]) -> None:
        """The broker did not take these; the others went through."""
        by_attempts: dict[int, list[Parcel]] = {}
        for parcel in failed:
            by_attempts.setdefault(parcel.claim.attempts, []).append(parcel)
        for attempts, parcels in by_attempts.items():
            delay = min(RETRY[1], RETRY[0] * 2 ** min(attempts, 20))
            logger.warning(
                "expiry: the broker did not take %d messages (timer %s: %s); next attempt in %.0f s",
                len(parcels),
                parcels[0].claim.label,
                parcels[0].reason,
                delay,
            )
            self._store.release(token, [parcel.claim for parcel in parcels], delay=delay, tried=True)

    def _ack(self, token: str, claims: list[Claimed]) -> None:
        self._unacked[token] = claims
        acked = self._store.ack(token, claims)
        del self._unacked[token]
        if acked < len(claims):
            logger.debug("expiry: %d published timers were no longer ours to ack", len(claims) - acked)

    def _ack_again(self) -> None:
        """Redis was away when these were published. Tell it before their lease ends."""
        for token, claims in list(self._unacked.items()):
            self._ack(token, claims)

    def _bury(self, claim: Claimed, reason: str) -> None:
        logger.error(
            "expiry: timer %s can't be published and was moved to the dead letters: %s "
            "(see: celery -A … expiry dead list)",
            claim.label,
            reason,
        )
        self._store.bury(claim, reason, self._worker)

    def _broker_answers(self) -> bool:
        try:
            self._publisher.connect()
        except BrokerUnavailable as exc:
            self._wait_for_broker(str(exc))
            return False
        return True

    def _wait_for_broker(self, reason: str) -> None:
        log = logger.warning if self._broker_failures == 0 else logger.debug
        log("expiry: the broker takes nothing (%s); what is due stays in Redis until it does", reason)
        delay = min(RECONNECT[1], RECONNECT[0] * 2**self._broker_failures)
        self._broker_failures = min(self._broker_failures + 1, 10)
        self.stopping.wait(delay)

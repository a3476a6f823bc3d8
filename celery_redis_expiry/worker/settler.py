"""What becomes of claimed timers after publishing: acked, released, postponed, or a dead letter."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery_redis_expiry.blocking import run
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import awaited_by
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Claimed, Stored, shown
from celery_redis_expiry.worker.backoff import backoff
from celery_redis_expiry.worker.bounds import Bounds
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.publishing import Parcel
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)

#: Seconds until a message that was not taken is tried again: doubled each time, from the first to the second.
RETRY = (1.0, 300.0)
#: Seconds between two attempts to ack what Redis could not be told of.
ACK_AGAIN = 1.0


class Settler:
    """Tells the store the outcome of each parcel. Used by one thread.

    Arguments:
        worker: its name, for the dead letters.
        bounds: of the dead letters.
        figures: that count what fired, and the dead letters.
    """

    def __init__(self, store: Store, lanes: Lanes, worker: str, bounds: Bounds, figures: Figures) -> None:
        self._store = store
        self._lanes = lanes
        self._worker = worker
        self._bounds = bounds
        self._figures = figures
        # published, but Redis did not answer when they were acked: by the token of their claim
        self._unacked: dict[str, list[Claimed]] = {}
        self._acked_again = 0.0

    def settle(self, token: str, parcels: list[Parcel]) -> None:
        """Nothing stays claimed that was not sent, and nothing is forgotten that was not published."""
        by_outcome: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            by_outcome.setdefault(parcel.outcome or "unsent", []).append(parcel)
        published = by_outcome.get("published", [])
        if published:
            # before the ack, which may fail and is then made up for
            self._figures.fired((parcel.claim.by_event, parcel.lateness) for parcel in published)
            self._lanes.published(parcel.claim.member for parcel in published)
            _log_fired(published)
            self.ack(token, [parcel.claim for parcel in published])
        unknown = by_outcome.get("unknown", [])
        if unknown:
            logger.warning(
                "expiry: the broker's answer to %d messages was lost (timer %s: %s): "
                "they are published again under their task ids, and may run twice",
                len(unknown),
                shown(unknown[0].claim.label),
                shown(unknown[0].reason),
                extra=log_fields("answer_lost", count=len(unknown), **_told(unknown[0])),
            )
        self._store.release(token, [parcel.claim for parcel in by_outcome.get("unsent", [])])
        self._store.release(token, [parcel.claim for parcel in unknown], unsure=True)
        self.postpone(token, by_outcome.get("failed", []))
        for parcel in by_outcome.get("refused", ()):
            self.bury(parcel.claim, parcel.reason)
        if "stalled" in by_outcome:
            logger.warning(
                "expiry: %d timers were not published: this worker stalled beyond their lease, and another "
                "has them. Remedy: look at this machine (swap, a stopped VM), or raise expiry_lease",
                len(by_outcome["stalled"]),
                extra=log_fields("stalled", count=len(by_outcome["stalled"])),
            )

    def postpone(self, token: str, failed: list[Parcel]) -> None:
        """The broker did not take these; they are tried for as long as it takes, ever more seldom."""
        by_attempts: dict[int, list[Parcel]] = {}
        for parcel in failed:
            by_attempts.setdefault(parcel.claim.attempts, []).append(parcel)
        for attempts, parcels in by_attempts.items():
            delay = backoff(RETRY, attempts)
            logger.warning(
                "expiry: %d timers could not be published (%s: %s); next attempt in %.0f s",
                len(parcels),
                shown(parcels[0].claim.label),
                shown(parcels[0].reason),
                delay,
                extra=log_fields("postponed", count=len(parcels), **_told(parcels[0])),
            )
            # of a canvas a part may be out, unless it was never applied
            unsure = any(parcel.is_canvas and not parcel.claim.problem for parcel in parcels)
            claims = [parcel.claim for parcel in parcels]
            self._store.release(token, claims, delay=delay, tried=True, unsure=unsure)

    def ack(self, token: str, claims: list[Claimed]) -> None:
        self._unacked[token] = claims
        acked = self._store.ack(token, claims)
        del self._unacked[token]
        if acked < len(claims):
            logger.debug("expiry: %d published timers were no longer ours to ack", len(claims) - acked)

    @property
    def owes(self) -> bool:
        """Whether Redis does not know of something yet that was published."""
        return bool(self._unacked)

    def ack_again(self) -> None:
        """Redis was away when these were published. Tell it before their lease ends."""
        if not self.owes or time.monotonic() - self._acked_again < ACK_AGAIN:
            return
        for token, claims in list(self._unacked.items()):
            try:
                self.ack(token, claims)
            except StoreUnavailable as exc:
                # the other shards must not wait for this one
                logger.debug("expiry: %d published timers can't be acked yet: %s", len(claims), exc)
        self._acked_again = time.monotonic()

    def bury(self, claim: Claimed, reason: str) -> None:
        logger.error(
            "expiry: timer %s can't be published and was moved to the dead letters: %s "
            "(see: celery -A … expiry dead list)",
            shown(claim.label or claim.member),
            shown(reason),
            extra=log_fields(
                "dead_letter",
                timer=shown(claim.label or claim.member),
                task_id=shown(claim.id),
                shard=claim.shard,
                reason=shown(reason),
            ),
        )
        if self._store.bury(claim, reason, self._worker):
            self._figures.buried()
            self._let_recur(claim)
        self._bounds.enforce(self._store.shards[claim.shard])

    def _let_recur(self, claim: Claimed) -> None:
        """The next occurrence need not wait for one that is a dead letter."""
        label = awaited_by(claim.stored.content) if isinstance(claim.stored, Stored) else None
        if label is not None:
            run(self._store.calls.finish(label, claim.id))


def _told(parcel: Parcel) -> dict[str, Any]:
    """The fields of a line about a parcel."""
    return {
        "timer": shown(parcel.claim.label),
        "task": shown(str(parcel.content.get("task"))),
        "task_id": shown(parcel.claim.id),
        "shard": parcel.claim.shard,
        "reason": shown(parcel.reason),
    }


def _log_fired(parcels: list[Parcel]) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        for parcel in parcels:
            logger.debug(
                "expiry: fired timer %s, %.0f ms late",
                shown(parcel.claim.label),
                parcel.lateness * 1000,
                extra=log_fields("fired", **_told(parcel), lateness=parcel.lateness),
            )

"""The dispatcher: claims due timers, publishes them, acknowledges.

A crash between these steps is repaired by the lease's end: the timer is recovered and published again, under
the same task id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.loop import Loop
from celery_redis_expiry.publisher import BrokerUnavailable, Parcel, Publisher
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import Claimed, Stored, Undecodable

logger = logging.getLogger(__name__)

#: How many members wait in a lane at most; the index knows those that find no place.
LANE = 10_000
#: How many members are remembered as dealt with, so that their own late events are no work.
REMEMBERED = 20_000
#: Seconds until a refused message is tried again: doubled each time, from the first to the second.
RETRY = (1.0, 300.0)
#: Seconds between attempts to reach the broker, likewise.
RECONNECT = (0.2, 5.0)


class Dispatcher(Loop):
    """Two lanes feed it: events (what falls due now) and the backlog, and neither waits for the other's end.

    Arguments:
        lease: seconds for which a claim holds.
        batch: how many timers are claimed and published together.
        worker: its name, for the dead letters.
        hungry: called when the backlog's lane has run empty.
    """

    name = "dispatcher"

    def __init__(self, store: Store, publisher: Publisher, *, lease: float, batch: int, worker: str) -> None:
        super().__init__()
        self.hungry: Callable[[], None] = lambda: None
        self._store = store
        self._publisher = publisher
        self._lease = lease
        self._batch = batch
        self._worker = worker
        self._condition = threading.Condition()
        self._events: dict[str, None] = {}
        self._backlog: dict[str, None] = {}
        self._done: dict[str, None] = {}
        self._broker_failures = 0

    def fire(self, member: str) -> None:
        """An event says that this timer's trigger key has expired."""
        with self._condition:
            if member not in self._done and len(self._events) < LANE:
                self._backlog.pop(member, None)
                self._events[member] = None
                self._condition.notify()

    def catch_up(self, late: Iterable[str], newest: Iterable[str] = ()) -> None:
        """The index says that these are due; `newest` are not to wait behind `late`."""
        with self._condition:
            for member in late:
                if member not in self._events and len(self._backlog) < LANE:
                    self._backlog[member] = None
            # the index alone can't tell that the key expired, so this is no event
            fresh = [
                member for member in newest if member not in self._events and member not in self._backlog
            ]
            self._backlog = dict.fromkeys([*fresh, *self._backlog]) if fresh else self._backlog
            if self._backlog:
                self._condition.notify()

    def knows(self, member: str) -> bool:
        """Whether this timer waits in a lane or is being published."""
        with self._condition:
            return member in self._events or member in self._backlog

    def interrupt(self) -> None:
        with self._condition:
            self._condition.notify()

    def one_pass(self) -> None:
        with self._condition:
            if not self._events and not self._backlog:
                self._condition.wait_for(lambda: self._events or self._backlog or self.stopping.is_set(), 60)
            if self.stopping.is_set() or not (self._events or self._backlog):
                return
        # before claiming: what can't be published is better left to a worker that can
        if not self._broker_answers():
            return
        taken = self._take()
        try:
            self.dispatch(taken)
        finally:
            with self._condition:
                for member, _ in taken:
                    self._events.pop(member, None)
                    self._backlog.pop(member, None)
                empty = not self._backlog
            if empty and any(not expired for _, expired in taken):
                self.hungry()

    def _take(self) -> list[tuple[str, bool]]:
        """Half a batch from each lane, more where the other has less. They stay known until published."""
        with self._condition:
            half = self._batch // 2
            events = list(self._events)[: max(half, self._batch - len(self._backlog))]
            backlog = list(self._backlog)[: self._batch - len(events)]
        return [(member, True) for member in events] + [(member, False) for member in backlog]

    def dispatch(self, members: list[tuple[str, bool]]) -> int:
        """Claim, publish, ack; returns how many messages the broker has now."""
        token = new_token()
        deadline = time.monotonic() + self._lease
        claims = self._store.claim(members, token=token, lease=self._lease)
        if not claims:
            return 0
        parcels = []
        for claim in claims:
            try:
                stored = Stored.decode(claim.record)
                claim.id = stored.id
                parcels.append(Parcel(stored.content, claim.due, claim))
            except Undecodable as exc:
                claim.id = claim.label
                self._bury(claim, str(exc))
        try:
            self._publisher.publish(parcels, deadline)
        except BaseException:
            # whatever it was: nothing stays claimed that was not handed out
            self._store.release(token, [p.claim for p in parcels if p.outcome is None])
            raise
        finally:
            self._settle(token, parcels)
        return sum(parcel.outcome == "published" for parcel in parcels)

    def _settle(self, token: str, parcels: list[Parcel]) -> None:
        by_outcome: dict[str | None, list[Parcel]] = {}
        for parcel in parcels:
            by_outcome.setdefault(parcel.outcome, []).append(parcel)
        published = [parcel.claim for parcel in by_outcome.get("published", ())]
        self._remember(published)
        acked = self._store.ack(token, published)
        if acked < len(published):
            logger.debug(
                "expiry: %d of %d published timers were no longer ours to ack",
                len(published) - acked,
                len(published),
            )
        self._store.release(token, [parcel.claim for parcel in by_outcome.get("unsent", ())])
        for parcel in by_outcome.get("unknown", ()):
            logger.warning(
                "expiry: timer %s: the broker's answer was lost (%s); it is published again under the same task id",
                parcel.claim.label, parcel.reason,
            )  # fmt: skip
        self._store.release(token, [parcel.claim for parcel in by_outcome.get("unknown", ())])
        for parcel in by_outcome.get("failed", ()):
            delay = min(RETRY[1], RETRY[0] * 2 ** min(parcel.claim.attempts, 20))
            logger.warning(
                "expiry: timer %s could not be published: %s; next attempt in %.0f s",
                parcel.claim.label, parcel.reason, delay,
            )  # fmt: skip
            self._store.release(token, [parcel.claim], delay=delay, tried=True)
        for parcel in by_outcome.get("refused", ()):
            self._bury(parcel.claim, parcel.reason)
        if "unsent" in by_outcome or "unknown" in by_outcome:
            # they are due in the index again; a look at once, and _broker_answers does the waiting
            self._broker_failures = max(1, self._broker_failures)
            self.hungry()

    def _bury(self, claim: Claimed, reason: str) -> None:
        logger.error(
            "expiry: timer %s can't be published and was moved to the dead letters: %s "
            "(see: celery -A … expiry dead)", claim.label, reason,
        )  # fmt: skip
        self._store.bury(claim, reason, self._worker)

    def _remember(self, claims: list[Claimed]) -> None:
        """Their own expired events may still be on the way: no work any more."""
        with self._condition:
            for claim in claims:
                self._done[claim.member] = None
            while len(self._done) > REMEMBERED:
                del self._done[next(iter(self._done))]

    def _broker_answers(self) -> bool:
        try:
            self._publisher.connect()
        except BrokerUnavailable as exc:
            delay = min(RECONNECT[1], RECONNECT[0] * 2**self._broker_failures)
            log = logger.warning if self._broker_failures == 0 else logger.debug
            log("expiry: the broker can't be reached (%s); what is due stays in Redis until it can", exc)
            self._broker_failures = min(self._broker_failures + 1, 10)
            self.stopping.wait(delay)
            return False
        if self._broker_failures:
            logger.info("expiry: the broker answers again")
        self._broker_failures = 0
        return True

    def close(self) -> None:
        self._publisher.close()

"""The pace of one shard: when to look at its due index, and what to do about what is due there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import RECHECK_MS, Due, Look, Shard
from celery_redis_expiry.worker.hearing import Hearing
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)

#: Seconds that the event of a touched trigger key has.
GRACE = 0.1
#: Seconds until the next look while no wake-up can be heard, or more is due than one look shows.
DEAF = 1.0
#: Seconds for which the oldest are not looked at again when nearly all of them were known.
REST = 0.1
#: How many of the oldest, and of the newest, are looked at while the lane of the backlog is filled: only the
#: newest are news then.
FEW, NEWEST = 10, 50
#: How many of those that fall due next are read ahead at most, where they fire in place.
AHEAD = 20
#: How many parked timers are looked at in one sweep, at most one sweep a minute.
PARKED = 500


class Pace:
    """Touches what is due, so that Redis expires it at that moment. What is still there a short grace later
    goes to the dispatcher's backlog, by the index.

    Arguments: see `Pacer`.
    """

    def __init__(
        self,
        shard: Shard,
        lanes: Lanes,
        hearing: Hearing,
        *,
        announced: str,
        batch: int,
        sweeps: Sequence[Callable[[Shard], None]],
        figures: Figures,
        direct: Callable[[], bool] = lambda: False,
        expect: Callable[[int, Sequence[Due]], None] = lambda shard, coming: None,
    ) -> None:
        self._shard = shard
        self._number = shard.number
        self._lanes = lanes
        self._hearing = hearing
        self._announced = announced
        self._batch = batch
        self._sweeps = sweeps
        self._figures = figures
        self._direct = direct
        self._expect = expect
        self._next: Sequence[Due] = ()
        self._next_due = 0  # on Redis's clock, ms
        self._touched: dict[str, float] = {}
        self._swept = -RECHECK_MS / 1000
        self._rests_until = 0.0  # on the monotonic clock
        self._looked = 0.0  # when the last look was, on Redis's clock, ms
        self._clock_offset = 0.0  # Redis's clock less the monotonic one, s

    def keep(self) -> float:
        """Look once and act on it; returns when to look again, on the monotonic clock."""
        self._hand_over_next()
        before = time.monotonic()
        sweep = before - self._swept >= RECHECK_MS / 1000
        limit, newest = self._batch, max(1, self._batch // 4)
        if before < self._rests_until or self._lanes.crowded(self._number, newest):
            limit, newest = min(limit, FEW), min(newest, NEWEST)
        look = self._shard.look(
            self._announced,
            limit=limit,
            newest=newest,
            parked=PARKED if sweep else 0,
            ahead=AHEAD if self._direct() else 0,
        )
        now = time.monotonic()
        self._next, self._next_due = look.next, look.next_due or 0
        self._expect(self._number, self._next)
        self._clock_offset = look.now / 1000 - (before + now) / 2
        if sweep:
            self._swept = now
            for each in self._sweeps:
                each(self._shard)
        if look.lease is not None and look.lease < look.now:
            recovered = self._shard.recover(self._batch)
            if recovered:
                self._figures.recovered(recovered)
                logger.warning(
                    "expiry: recovered %d timers from a worker that died or stalled: they fire now. See its "
                    "log, and start it again",
                    recovered,
                    extra=log_fields("recovered", count=recovered, shard=self._number),
                )
            return now
        wake = min(self.local(look.wake), self._act(look, now, limit))
        self._shard.touch(look.parked)
        # without the subscription nobody says that an earlier timer was scheduled
        return wake if self._hearing.wakes(self._number) else min(wake, now + DEAF)

    def _hand_over_next(self) -> None:
        """What was to fall due now is handed over before it is asked what did: two round trips less."""
        coming, self._next = self._next, ()
        if coming and self._direct() and time.monotonic() >= self.local(self._next_due + 1):
            self._lanes.catch_up(self._number, [due.member for due in coming])

    def _act(self, look: Look, now: float, limit: int) -> float:
        backlog = len(look.due) >= limit
        # what fires in place asks for the trigger key itself, in the same step
        grace = GRACE if self._hearing.events(self._number) and not self._direct() else 0.0
        touch: list[str] = []
        late: list[str] = []
        lost = 0
        touched: dict[str, float] = {}
        known = self._lanes.known(self._number, [member for member, _ in look.due])
        for member, due in look.due:
            if member in known:
                continue
            at = self._touched.get(member)
            if at is not None and now - at < grace:
                touched[member] = at
            elif backlog or grace == 0 or at is not None or look.now - due > GRACE * 1000:
                late.append(member)
                lost += at is not None and grace > 0
            else:
                touch.append(member)
                touched[member] = now
        if lost and not backlog:
            logger.debug("expiry pacer: %d expired events did not come within %s s", lost, GRACE)
            self._hearing.doubt(self._number)
        # of what fell due before the last look, that one knew
        fresh = [member for member, due in look.newest if due >= self._looked - 1]
        self._looked = look.now
        again = self._lanes.catch_up(self._number, late, fresh)
        for start in range(0, len(touch), 100):
            self._shard.touch(touch[start : start + 100])
        self._touched = touched
        wake = min(touched.values(), default=float("inf")) + GRACE
        if backlog:
            # it may all be known already, or find no place; what found none is known to the index alone
            wake = min(wake, now + DEAF)
        if backlog and limit == self._batch and len(late) < limit // 4:
            # events told of most of it before: while these are worked off, it is not read again and again
            self._rests_until = now + REST
            wake = min(wake, self._rests_until)
        return wake if again is None or not late else min(wake, again)

    def withdraw(self) -> None:
        """Say that nobody wakes under this name any more."""
        self._shard.withdraw(self._announced)

    def local(self, redis_ms: float) -> float:
        """A time on Redis's clock (ms), on the monotonic one (s)."""
        return redis_ms / 1000 - self._clock_offset

"""The pacer: makes Redis punctual, and catches what no event told of.

It sleeps until the next due time and touches what is due, so that Redis expires it at that moment. What is
still there a short grace later goes to the dispatcher's backlog, by the index. It never polls.
"""

from __future__ import annotations

import logging
import threading
import time

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import RECHECK_MS, Look, Store
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.notifications import Notifications

logger = logging.getLogger(__name__)

#: Seconds that the event of a touched trigger key has.
GRACE = 0.1
#: Seconds until the next look while no wake-up can be heard.
DEAF = 1.0
#: How many parked timers are looked at in one sweep, at most one sweep a minute.
PARKED = 500


class Pacer(Loop):
    """One pass: look, touch, hand over; then sleep.

    Arguments:
        worker: the name under which it announces when it will wake.
        batch: how many timers at most in one pass.
    """

    name = "pacer"

    def __init__(
        self, store: Store, lanes: Lanes, notifications: Notifications, *, worker: str, batch: int
    ) -> None:
        super().__init__()
        self._store = store
        self._lanes = lanes
        self._notifications = notifications
        # a restarted worker may have the name of one that is still stopping
        self._worker = f"{worker}:{new_token()}"
        self._batch = batch
        self._touched: dict[str, float] = {}
        self._swept = -RECHECK_MS / 1000
        self._condition = threading.Condition()
        self._wake_at = 0.0  # on the monotonic clock; 0 for at once
        self._clock_offset = 0.0  # Redis's clock less the monotonic one, s

    def poke(self, due: int | None = None) -> None:
        """Wake at a due time (ms) that is earlier than the one slept for; at once for None."""
        with self._condition:
            at = 0.0 if due is None else self._local(due + 1)
            if at < self._wake_at:
                self._wake_at = at
                self._condition.notify()

    def interrupt(self) -> None:
        self.poke()

    def one_pass(self) -> None:
        """Sleep until it is time, then look and act."""
        with self._condition:
            while not self.stopping.is_set():
                remaining = self._wake_at - time.monotonic()
                if remaining <= 0:
                    break
                self._condition.wait(remaining)
            if self.stopping.is_set():
                return
            # pokes during the pass must shorten the sleep after it, not be overwritten by it
            self._wake_at = float("inf")
        try:
            wake_at = self.pace()
        except BaseException:
            self.poke()
            raise
        with self._condition:
            self._wake_at = min(self._wake_at, wake_at)

    def pace(self) -> float:
        """Look once and act on it; returns when to look again, on the monotonic clock."""
        sweep = time.monotonic() - self._swept >= RECHECK_MS / 1000
        before = time.monotonic()
        look = self._store.look(self._worker, limit=self._batch, parked=PARKED if sweep else 0)
        now = time.monotonic()
        self._clock_offset = look.now / 1000 - (before + now) / 2
        if sweep:
            self._swept = now
        if look.lease is not None and look.lease < look.now:
            recovered = self._store.recover(self._batch)
            if recovered:
                logger.warning("expiry: recovered %d timers from a worker that died or stalled", recovered)
            return now
        wake = min(self._local(look.wake), self._act(look, now))
        self._store.touch(look.parked)
        # without the subscription nobody says that an earlier timer was scheduled
        return wake if self._notifications.subscribed else min(wake, now + DEAF)

    def _act(self, look: Look, now: float) -> float:
        backlog = len(look.due) >= self._batch
        grace = GRACE if self._notifications.on else 0.0
        touch: list[str] = []
        late: list[str] = []
        lost = 0
        touched: dict[str, float] = {}
        for member, due in look.due:
            if self._lanes.knows(member):
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
            self._notifications.check()
        self._lanes.catch_up(late, [member for member, _ in look.newest])
        for start in range(0, len(touch), 100):
            self._store.touch(touch[start : start + 100])
        self._touched = touched
        return min(touched.values(), default=float("inf")) + GRACE

    def close(self) -> None:
        self._store.withdraw(self._worker)

    def _local(self, redis_ms: float) -> float:
        return redis_ms / 1000 - self._clock_offset

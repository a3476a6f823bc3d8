"""The pacer: makes Redis punctual, and catches what no event told of. It never polls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from celery_redis_expiry.errors import StoreUnavailable, StoreUnreachable
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.store import Due, Shard, Store
from celery_redis_expiry.worker.hearing import Hearing
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.outages import Outages
from celery_redis_expiry.worker.pace import Pace
from celery_redis_expiry.worker.reporting.figures import Figures


class Pacer(Loop):
    """One pass: sleep until the next due time of any shard; look there, touch, hand over.

    Arguments:
        hearing: what is heard of a shard: whether its events are proven to arrive, and its wake-ups.
        worker: the name under which it announces when it will wake.
        batch: how many timers at most in one pass.
        sweeps: called for a shard once a minute.
        figures: that count what is recovered.
        direct: whether what is due is handed over at once, and not touched for its event's sake.
        expect: called with a shard and those that fall due there next, before they do.
    """

    name = "pacer"

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        hearing: Hearing,
        *,
        worker: str,
        batch: int,
        sweeps: Sequence[Callable[[Shard], None]],
        figures: Figures,
        direct: Callable[[], bool] = lambda: False,
        expect: Callable[[int, Sequence[Due]], None] = lambda shard, coming: None,
    ) -> None:
        super().__init__()
        self._store = store
        # a restarted worker may have the name of one that is still stopping
        announced = f"{worker}:{new_token()}"
        self._paces = [
            Pace(
                *(shard, lanes, hearing),
                announced=announced,
                batch=batch,
                sweeps=sweeps,
                figures=figures,
                direct=direct,
                expect=expect,
            )
            for shard in store.shards
        ]
        self._outages = Outages(self.name, len(self._paces))
        self._condition = threading.Condition()
        self._wake_at = [0.0] * len(self._paces)  # on the monotonic clock; 0 for at once

    def poke(self, shard: int | None = None, due: int | None = None, *, after: float = 0.0) -> None:
        """Wake at a due time (ms) that is earlier than the one slept for, or `after` so many seconds.

        Arguments:
            shard: which one; None for all.
        """
        with self._condition:
            for number in range(len(self._paces)) if shard is None else [shard]:
                if due is not None:
                    at = self._paces[number].local(due + 1)
                else:
                    at = time.monotonic() + after if after else 0.0
                if at < self._wake_at[number]:
                    self._wake_at[number] = at
                    self._condition.notify()

    def interrupt(self) -> None:
        self.poke()

    def one_pass(self) -> None:
        """Sleep until it is time for a shard, then look and act there."""
        with self._condition:
            while not self.stopping.is_set():
                number = min(range(len(self._wake_at)), key=self._wake_at.__getitem__)
                remaining = self._wake_at[number] - time.monotonic()
                if remaining <= 0:
                    break
                self._condition.wait(remaining)
            if self.stopping.is_set():
                return
            # pokes during the pass must shorten the sleep after it, not be overwritten by it
            self._wake_at[number] = float("inf")
        try:
            wake_at = self._paces[number].keep()
            self._outages.answered(number)
        except StoreUnavailable as exc:
            wake_at = time.monotonic() + self._outages.failed(number, exc)
            if isinstance(exc, StoreUnreachable):
                # to ask one shard after the other would hold those of other servers up each time
                self._postpone(self._store.beside(number), wake_at)
        except BaseException:
            # Loop tells of it; the others go on meanwhile
            self.poke(number, after=1.0)
            raise
        with self._condition:
            self._wake_at[number] = min(self._wake_at[number], wake_at)

    def _postpone(self, shards: list[int], until: float) -> None:
        with self._condition:
            for number in shards:
                self._wake_at[number] = max(self._wake_at[number], until)

    def close(self) -> None:
        for pace in self._paces:
            pace.withdraw()

"""What an expiry worker counts of itself: in its own memory, so that Redis has no work with it."""

from __future__ import annotations

import math
import threading
import time
from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

#: Seconds: latenesses are counted by two significant digits, from a tenth of a millisecond to twelve days.
BOUNDS = [float(f"{digits}e{power}") for power in range(-5, 5) for digits in range(10, 100)] + [1e6]
#: Seconds over which p50, p99 and max are told, and how often what is older is forgotten.
WINDOW = 300
SLOT = 30


class Latenesses:
    """How many timers were how late, in constant memory."""

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * len(BOUNDS)))
        self.count = 0
        self.sum = 0.0
        self.max = 0.0

    def add(self, lateness: float, times: int = 1) -> None:
        self.counts[min(bisect_left(BOUNDS, lateness), len(BOUNDS) - 1)] += times
        self.count += times
        self.sum += lateness * times
        self.max = max(self.max, lateness)

    def merge(self, other: Latenesses) -> None:
        self.counts = array("Q", map(sum, zip(self.counts, other.counts, strict=True)))
        self.count += other.count
        self.sum += other.sum
        self.max = max(self.max, other.max)

    def quantile(self, share: float) -> float | None:
        """The lateness, in seconds, that this share of them did not exceed; None where there are none."""
        if not self.count:
            return None
        left = math.ceil(share * self.count)
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            left -= count
            if left <= 0:
                return min(bound, self.max)
        return self.max

    def up_to(self, limits: Sequence[float]) -> list[int]:
        """How many were not later than each of these limits (seconds), which must be among the bounds."""
        return [sum(self.counts[: bisect_left(BOUNDS, limit) + 1]) for limit in limits]


@dataclass(frozen=True)
class Snapshot:
    """The figures at one moment.

    Attributes:
        by_event: the latenesses of all that fired because an event told of them.
        by_sweep: the same of those that only the index told of.
        recent: of those that fired within the last `WINDOW` seconds.
        recovered: how many timers were recovered from other workers that died or stalled.
        buried: how many dead letters were made.
        called_off: how many timers their guards called off.
        in_place: how many timers fired in place.
        skipped: how many occurrences of recurring timers were skipped, since the one before had not ended.
        missed: how many occurrences passed while no expiry worker ran.
    """

    by_event: Latenesses
    by_sweep: Latenesses
    recent: Latenesses
    recovered: int
    buried: int
    called_off: int
    in_place: int = 0
    skipped: int = 0
    missed: int = 0


class _Slot:
    """What fired in one stretch of time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.by_event = Latenesses()
        self.by_sweep = Latenesses()


class Figures:
    """The figures of one expiry worker since its start; safe between threads.

    Arguments:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = deque([_Slot(self._number())])
        self._older = _Slot(0)
        self._recovered = 0
        self._buried = 0
        self._called_off = 0
        self._in_place = 0
        self._skipped = 0
        self._missed = 0

    def fired(self, timers: Iterable[tuple[bool, float]], *, in_place: bool = False) -> None:
        """Count timers whose messages are in the broker's queue.

        Arguments:
            timers: of each whether an event told of it, and how late it was, in seconds.
            in_place: whether they fired in place.
        """
        with self._lock:
            slot = self._slot()
            # of a burst many are equally late
            for (by_event, lateness), times in Counter(timers).items():
                self._in_place += times if in_place else 0
                (slot.by_event if by_event else slot.by_sweep).add(lateness, times)

    def recovered(self, count: int) -> None:
        """Count timers that were recovered from other workers."""
        with self._lock:
            self._recovered += count

    def buried(self) -> None:
        """Count a dead letter."""
        with self._lock:
            self._buried += 1

    def called_off(self, count: int) -> None:
        """Count timers that their guards called off."""
        with self._lock:
            self._called_off += count

    def skipped(self) -> None:
        """Count an occurrence of a recurring timer that was skipped."""
        with self._lock:
            self._skipped += 1

    def missed(self, count: int) -> None:
        """Count occurrences that passed while no expiry worker ran."""
        with self._lock:
            self._missed += count

    def snapshot(self) -> Snapshot:
        """The figures of this moment, which change no more."""
        by_event, by_sweep, recent = Latenesses(), Latenesses(), Latenesses()
        with self._lock:
            self._slot()
            for slot in (self._older, *self._slots):
                by_event.merge(slot.by_event)
                by_sweep.merge(slot.by_sweep)
            for slot in self._slots:
                recent.merge(slot.by_event)
                recent.merge(slot.by_sweep)
            return Snapshot(
                *(by_event, by_sweep, recent, self._recovered, self._buried, self._called_off),
                in_place=self._in_place,
                skipped=self._skipped,
                missed=self._missed,
            )

    def _slot(self) -> _Slot:
        """That of this moment. Nothing ticks: what has become too old is put aside when somebody comes."""
        number = self._number()
        while self._slots and self._slots[0].number <= number - WINDOW // SLOT:
            old = self._slots.popleft()
            self._older.by_event.merge(old.by_event)
            self._older.by_sweep.merge(old.by_sweep)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]

    def _number(self) -> int:
        return int(self._clock() // SLOT)

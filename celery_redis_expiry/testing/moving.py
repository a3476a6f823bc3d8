"""This process's clock, which a test moves: `time.time`, `datetime.now` and what goes by them.

Whoever moves it in this test already is driven on: freezegun, or a traveller of time-machine. Else
time-machine begins with the first move, and ends with the test. A clock that goes on goes on, one that is
frozen stays so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from celery_redis_expiry.errors import NotConfigured


class ProcessClock:
    """The clock, in ms since the epoch."""

    def __init__(self) -> None:
        self._own: Any = None
        self._standing: Any = None

    @staticmethod
    def now(*, ceil: bool = False) -> int:
        """The time; with `ceil` the first ms that begins not before it."""
        return (_micros() + (999 if ceil else 0)) // 1000

    @contextmanager
    def standing(self) -> Iterator[None]:
        """While it lasts the clock goes by `move_to` alone: what takes a ms must not put off what follows."""
        if _frozen() is not None:
            yield
            return
        travel = _time_machine().travel
        if not _travellers():
            self._own = travel(_micros() / 1e6, tick=True)
            self._own.start()
        below = _travellers()[-1]
        self._standing = travel(_micros() / 1e6, tick=False)
        self._standing.start()
        try:
            yield
        finally:
            reached = _micros()
            self._standing.stop()
            _forward(below.shift, reached)

    def move_to(self, ms: int) -> None:
        """Put it forward, while it stands; it is never put back."""
        frozen = _frozen()
        # to the very start of that ms, as what is due is due then
        _forward(_travellers()[-1].shift if frozen is None else frozen.tick, ms * 1000)

    def close(self) -> None:
        """Give the process its own time back, where this has moved it."""
        if self._own is not None:
            self._own.stop()
            self._own = None


def _forward(shift: Callable[[timedelta], Any], micros: int) -> None:
    by = timedelta(microseconds=micros - _micros())
    if by > timedelta(0):
        shift(by)


def _micros() -> int:
    return round(time.time() * 1e6)


def _frozen() -> Any:
    """What freezegun has frozen the time by, innermost; None where it has not."""
    factories = getattr(sys.modules.get("freezegun.api"), "freeze_factories", None)
    return factories[-1] if factories else None


def _travellers() -> list[Any]:
    """Those of time-machine that travel now, innermost last."""
    return list(_time_machine().traveller_stack)


def _time_machine() -> Any:
    try:
        import time_machine
    except ImportError as exc:
        raise NotConfigured(
            "expiry_clock moves the clock of this process by time-machine, which is not installed: pip "
            "install 'celery-redis-expiry[testing]', or freeze the time of the test with freezegun"
        ) from exc
    return time_machine

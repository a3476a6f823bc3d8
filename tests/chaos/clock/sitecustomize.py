"""Gives a process a wrong clock: CHAOS_CLOCK seconds ahead of the machine's, behind where it is negative.

Python imports a module of this name at its start, from wherever PYTHONPATH has it. Only the wall clock is
wrong: monotonic clocks count from nowhere, and the system's own calls (`clock_gettime`) tell the truth.
"""

import datetime
import os
import time
from typing import Any

SHIFT = float(os.environ.get("CHAOS_CLOCK", "0"))

_time, _time_ns = time.time, time.time_ns
_datetime = datetime.datetime


class _Alike(type):
    """What C code makes are instances of the original class: they pass for instances of ours."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)


class ShiftedDatetime(_datetime, metaclass=_Alike):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _datetime.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return _datetime.fromtimestamp(time.time())


if SHIFT:
    time.time = lambda: _time() + SHIFT
    time.time_ns = lambda: _time_ns() + int(SHIFT * 1e9)
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]

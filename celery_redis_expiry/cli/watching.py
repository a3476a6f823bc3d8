"""What `celery expiry watch` looks at, again and again; Redis and the workers may be away meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from celery_redis_expiry.cli.texts import timer_told
from celery_redis_expiry.cli.workers import Answers, asked
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.store import Snapshot, new_store, snapshot

#: How many minutes ahead are counted, and how many timers are shown.
MINUTES, FIRST = 60, 8
#: Seconds for one attempt to reach Redis: the screen says soon that it is away.
TIMEOUT = 2.0


@dataclass(frozen=True)
class View:
    """What there was to see at one look.

    Attributes:
        at: when, aware, UTC.
        counted: what Redis says; the last that it said while it is away; None before it ever answered.
        workers: what the expiry workers say of themselves, None for one that does not answer.
        rate: timers fired a second since the last look, by the workers that answered both times, or None.
        error: why Redis, or the workers, can't be asked, or None.
        away: since when Redis can't, aware, UTC, or None.
    """

    at: datetime
    counted: Snapshot | None
    workers: Answers = field(default_factory=dict)
    rate: float | None = None
    error: str | None = None
    away: datetime | None = None

    @property
    def lateness(self) -> dict[str, float]:
        """p50, p99 and max in seconds of the worker that has the worst; empty where none has fired."""
        told = [(block or {}).get("lateness") or {} for block in self.workers.values()]
        each = {
            name: [late[name] for late in told if late.get(name) is not None]
            for name in ("p50", "p99", "max")
        }
        return {name: max(values) for name, values in each.items() if values}

    def as_dict(self) -> dict[str, Any]:
        """What JSON tells."""
        now = self.counted
        return {
            "at": self.at.isoformat(),
            "error": self.error,
            "away": self.away.isoformat() if self.away else None,
            **{
                name: getattr(now, name, None)
                for name in ("waiting", "due", "parked", "claimed", "dead", "ahead")
            },
            "rate": self.rate,
            "lateness": self.lateness,
            "workers": self.workers,
            "next": [timer_told(timer) for timer in now.next] if now else [],
        }


class Watcher:
    """Looks, and remembers what it saw.

    Arguments:
        patience: seconds for which the workers are waited for.
    """

    def __init__(self, app: Any, patience: float) -> None:
        self.app = app
        self.store = new_store(app, timeout=TIMEOUT, retries=0)
        self._patience = patience
        self._last: View | None = None
        self._fired: tuple[float, dict[str, int]] = (0.0, {})

    def look(self) -> View:
        at, last = datetime.now(timezone.utc), self._last
        try:
            counted = snapshot(self.store, minutes=MINUTES, first=FIRST)
        except StoreUnavailable as exc:
            away = (last.away if last else None) or at
            self._last = View(at, last.counted if last else None, error=str(exc), away=away)
            return self._last
        workers, problem = asked(self.app, counted.workers, self._patience)
        self._last = View(at, counted, workers, self._rate(workers), problem)
        return self._last

    def _rate(self, workers: Answers) -> float | None:
        now = time.monotonic()
        fired = {
            name: block["fired"]
            for name, block in workers.items()
            if block and isinstance(block.get("fired"), int)
        }
        (before, known), self._fired = self._fired, (now, fired)
        both = fired.keys() & known.keys()
        if not both:
            return None
        # one that was started again counts from nought
        return float(sum(max(0, fired[name] - known[name]) for name in both) / max(now - before, 0.001))

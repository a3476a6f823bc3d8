"""Which timers are meant where many are listed, or purged: patterns, a range of due times, states."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from celery_redis_expiry.timer import LATEST, Timer

#: In the order in which they are listed: what is being published, what waits, what is parked.
STATES = ("claimed", "waiting", "parked")


@dataclass(frozen=True)
class Selection:
    """A timer is meant if it fits all of these.

    Attributes:
        task: a pattern for the name of the task; see `fnmatch`.
        name: a pattern for the name of the timer; one without a name goes by its task id.
        queue: the queue, exactly.
        low, high: due times in ms since the epoch, both included.
        states: any of `STATES`.
    """

    task: str | None = None
    name: str | None = None
    queue: str | None = None
    low: int = 0
    high: int = LATEST
    states: tuple[str, ...] = STATES

    @property
    def ranged(self) -> bool:
        """Whether a due time is asked for: parked timers have none."""
        return self.low > 0 or self.high < LATEST

    @property
    def by_label(self) -> bool:
        """Whether the label alone decides, so that no stored message need be read."""
        return not (self.task or self.queue or self.ranged) and {"waiting", "parked"} <= set(self.states)

    def takes_label(self, label: str) -> bool:
        return self.name is None or fnmatchcase(label, self.name)

    def takes(self, timer: Timer) -> bool:
        due = LATEST + 1 if timer.due is None else timer.due.timestamp() * 1000
        return (
            self.takes_label(timer.name or timer.id)
            and (self.task is None or fnmatchcase(timer.task, self.task))
            and (self.queue is None or timer.queue == self.queue)
            and (not self.ranged or self.low <= due <= self.high)
            and timer.state in self.states
        )

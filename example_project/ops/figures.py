"""What the expiry workers say of themselves, by `celery inspect stats`."""

from dataclasses import dataclass
from typing import Any

from celery import current_app
from kombu.exceptions import OperationalError

#: Seconds for which answers are collected; it always takes that long, as nobody knows how many will come.
PATIENCE = 1.0


@dataclass(frozen=True)
class Worker:
    """One expiry worker.

    Attributes:
        name: its node name.
        told: its `expiry` block; docs/monitoring.md says what is in it.
    """

    name: str
    told: dict[str, Any]

    @property
    def p50(self) -> float | None:
        """Its lateness in milliseconds over the last minutes; None where nothing fired in them."""
        return self._lateness("p50")

    @property
    def p99(self) -> float | None:
        return self._lateness("p99")

    @property
    def worst(self) -> float | None:
        return self._lateness("max")

    @property
    def rate(self) -> float:
        """Timers a minute, over the last minutes."""
        lateness = self.told["lateness"]
        return 60 * lateness["count"] / lateness["window"]

    def _lateness(self, name: str) -> float | None:
        seconds = self.told["lateness"][name]
        return None if seconds is None else seconds * 1000


def workers() -> list[Worker]:
    """The expiry workers that answer, by name; none where the broker is away."""
    try:
        # A connection of its own, tried once: Celery's would be tried for ever, and the page wait for it.
        with current_app.connection_for_write(connect_timeout=PATIENCE) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            inspect = current_app.control.inspect(timeout=PATIENCE, connection=connection)
            answers = inspect.stats() or {}
    except (OSError, OperationalError):
        return []
    return [Worker(name, stats["expiry"]) for name, stats in sorted(answers.items()) if "expiry" in stats]

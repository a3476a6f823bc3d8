"""What a process of a run is told: where the servers are, and the ledger in which it notes what ran and when.

Each peer's process imports this in its own environment, so it needs nothing but Python itself.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

VARIABLE = "BENCH_PLACE"


@dataclass(frozen=True)
class Place:
    """Where a contestant's processes find what they need.

    Attributes:
        redis: URL of its Redis.
        broker: URL of its broker, where that is another server.
        ledger: path of the file in which jobs note that they run.
        queue: name of its queue.
        conf: further settings, for those built on Celery.
    """

    redis: str
    broker: str
    ledger: str
    queue: str = "bench"
    conf: dict[str, Any] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {**os.environ, VARIABLE: json.dumps(asdict(self)), "PYTHONUNBUFFERED": "1"}

    @classmethod
    def here(cls) -> Place:
        """The one this process was started with."""
        return cls(**json.loads(os.environ[VARIABLE]))


_ledger: int | None = None


def note(label: str) -> None:
    """A job runs: one short line, which the kernel appends whole whoever else writes.

    A file and not Redis, so that noting costs every peer the same, and none of them its Redis's time.
    """
    global _ledger
    now = time.time()
    if _ledger is None:
        _ledger = os.open(Place.here().ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_ledger, f"{label} {now * 1000:.3f}\n".encode())

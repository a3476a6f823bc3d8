"""Many jobs due in one instant, and how long until the last has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import redis

from benchmarks.client import PeerFailed
from benchmarks.site import Site
from benchmarks.watch import LedgerWatch, QueueDepth, wait
from tests.servers.redis import RedisServer

#: How many jobs tell how fast a contestant schedules, so that its burst lies far enough ahead.
SAMPLE = 500
#: Microseconds from which a command is of interest.
SLOW = 200


class Burst:
    """One contestant's bursts; it learns how long scheduling takes.

    Arguments:
        runs: whether jobs must have run; else their messages must be in the broker's queue.
    """

    def __init__(self, stage: Site, count: int, patience: float, *, runs: bool) -> None:
        self.stage = stage
        self.count = count
        self.patience = patience
        self.runs = runs
        self.lead = 0.0

    def schedule(self) -> int:
        """Let them wait for one moment; answers it, ms since the epoch."""
        client = self.stage.client
        if not self.lead:
            took = client.schedule([(f"wait{i}", int((time.time() + 86_400) * 1000)) for i in range(SAMPLE)])
            self.lead = 1.0 + 1.3 * self.count * took["seconds"] / SAMPLE
        due = int((time.time() + self.lead) * 1000)
        client.schedule([(f"burst{index}", due) for index in range(self.count)], self.lead * 5)
        if time.time() * 1000 > due - 100:
            self.lead *= 1.7
            raise PeerFailed("scheduling took longer than the burst was away")
        return due

    def measure(self) -> Mapping[str, float]:
        """One burst, with workers up."""
        stage = self.stage
        with (LedgerWatch if self.runs else QueueDepth)(stage.place) as seen:
            if isinstance(seen, QueueDepth):
                seen.clear()
            due = self.schedule()
            came, at = self._follow(seen.count, due, seen.every if isinstance(seen, QueueDepth) else 0.005)
            if isinstance(seen, QueueDepth):
                seen.clear()
            elif came >= self.count:
                at = max(max(times) for times in seen.times().values())
        return {"rate": came / max(0.001, (at - due) / 1000), "arrived": came, "count": self.count}

    def _follow(self, arrived: Callable[[], int], due: int, every: float) -> tuple[int, float]:
        """How many have come when all have, or when the patience is over; and when that was, ms."""
        came = 0

        def all_there() -> bool:
            nonlocal came
            came = arrived()
            return came >= self.count

        wait(lambda: time.time() * 1000 >= due, due / 1000 + 1)
        wait(all_there, due / 1000 + self.patience, every)
        return min(came, self.count), time.time() * 1000


def watch_slow(store: RedisServer) -> None:
    """From now on, remember commands that hold this server up."""
    with store.client() as client:
        client.config_set("slowlog-log-slower-than", SLOW)
        client.config_set("slowlog-max-len", 20_000)
        client.slowlog_reset()


def slowest_script(store: RedisServer) -> float | None:
    """The longest that a script held this server up since `watch_slow`, ms; None for none that was slow."""
    with store.client() as client:
        entries = client.slowlog_get(20_000)
    scripts = [entry["duration"] / 1000 for entry in entries if is_script(entry["command"])]
    return max(scripts, default=None)


def is_script(command: bytes | str) -> bool:
    name = command.decode(errors="replace") if isinstance(command, bytes) else command
    return name.upper().startswith(("EVAL", "FCALL"))


def sample(stage: Site) -> str | bytes:
    """One message of a contestant's, as it lies in the broker's queue (a Redis list)."""
    with redis.Redis.from_url(stage.place.broker) as client:
        stage.client.do(60, do="send", count=1)
        message = client.lpop(stage.place.queue)
    assert isinstance(message, bytes)
    return message

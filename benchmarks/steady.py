"""A steady stream of jobs, each due at a random moment, and how late each is."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

from benchmarks.figures import percentile
from benchmarks.site import Site
from benchmarks.watch import LedgerWatch, QueueWatch, wait

#: Jobs a second.
RATE = 100
#: How often a stream is scheduled, each time further ahead, until it is scheduled before the first is due.
ATTEMPTS = 4


def moments(seconds: float, lead: float, prefix: str = "job") -> list[tuple[str, int]]:
    """Labels and when each is due, ms since the epoch: RATE a second on average, from `lead` seconds on."""
    begin = time.time() + lead
    dues = sorted(begin + random.random() * seconds for _ in range(int(RATE * seconds)))
    return [(f"{prefix}{index}", int(due * 1000)) for index, due in enumerate(dues)]


def measure(
    stage: Site,
    watch: type[LedgerWatch | QueueWatch],
    *,
    seconds: float,
    lead: float,
    patience: float,
) -> Mapping[str, float]:
    """Schedule such a stream with workers up, wait until all have come or `patience` seconds are over."""
    with watch(stage.place) as seen:
        total = 0
        for attempt in range(ATTEMPTS):
            items = moments(seconds, lead * 2**attempt, f"job{attempt}-")
            stage.client.schedule(items)
            total += len(items)
            scheduled = time.time() * 1000
            if items[0][1] > scheduled:
                break
        wait(lambda: seen.count() >= total, items[-1][1] / 1000 + patience)
        times = seen.times()
    # what fell due before it was scheduled says nothing of who fires it
    return lateness([item for item in items if item[1] > scheduled], times)


def lateness(items: Sequence[tuple[str, int]], times: Mapping[str, Sequence[float]]) -> Mapping[str, float]:
    """Percentiles in ms. Who has not come by now counts as late as it is by now: it is at least that."""
    now = time.time() * 1000
    late = [min(times[label]) - due if times.get(label) else now - due for label, due in items]
    arrived = sum(1 for label, _ in items if times.get(label))
    twice = sum(1 for label, _ in items if len(times.get(label, ())) > 1)
    if not late:
        return {"due": 0, "arrived": 0, "twice": 0}
    return {
        **{"due": len(items), "arrived": arrived, "twice": twice},
        **{"p50": percentile(late, 0.5), "p99": percentile(late, 0.99), "max": max(late)},
    }

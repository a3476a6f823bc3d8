"""What Prometheus is told of an expiry worker; needs the extra `prometheus`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.worker.reporting.figures import Figures, Latenesses, Snapshot
from celery_redis_expiry.worker.reporting.glance import Glance

#: Seconds for which a scrape waits for Redis; Prometheus waits 10 for a scrape by default.
PATIENCE = 3.0
#: Seconds; the limits of the histogram's buckets.
LIMITS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)


class Told(NamedTuple):
    """One metric.

    Attributes:
        shared: whether all workers of a namespace tell the same.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    shared: bool = False


#: Read from Redis at each scrape, by their names in `Seen`; absent while it does not answer.
SHARED = {
    field: Told(f"celery_expiry_{name}", "gauge", meaning, shared=True)
    for field, name, meaning in (
        ("waiting", "waiting_timers", "Timers that wait, those that are due now included."),
        ("parked", "parked_timers", "Timers whose trigger key has no TTL."),
        ("claimed", "claimed_timers", "Timers that a worker is publishing now."),
        ("due", "overdue_timers", "Timers that are due and not claimed yet."),
        ("oldest", "oldest_overdue_seconds", "For how long the oldest of these is due, else 0."),
        ("dead", "dead_letters", "Timers that can't be published, kept with their reason."),
    )
}
FIRED = Told(
    "celery_expiry_fired_total",
    "counter",
    "Timers that this worker put into the broker's queue, told of by an event or found by the sweep.",
    ("how",),
)
LATENESS = Told(
    "celery_expiry_lateness_seconds",
    "histogram",
    "From a timer's due time on Redis's clock until its message is in the broker's queue.",
    ("how",),
)
RECOVERED = Told(
    "celery_expiry_recovered_total",
    "counter",
    "Timers that this worker recovered from others that died or stalled.",
)
DEAD_LETTERED = Told(
    "celery_expiry_dead_lettered_total",
    "counter",
    "Timers that this worker moved to the dead letters.",
)
CALLED_OFF = Told(
    "celery_expiry_called_off_total",
    "counter",
    "Timers that this worker forgot instead, since their guards called them off.",
)
SKIPPED = Told(
    "celery_expiry_skipped_total",
    "counter",
    "Occurrences of recurring timers that this worker skipped: the task of the one before had not ended.",
)
MISSED = Told(
    "celery_expiry_missed_total",
    "counter",
    "Occurrences of recurring timers that passed while no expiry worker ran; a later one stood for them.",
)
IN_PLACE = Told(
    "celery_expiry_fired_in_place_total",
    "counter",
    "Of the timers that this worker fired, those that one script took from the index to the broker's queue.",
)
NOTIFICATIONS = Told(
    "celery_expiry_notifications_on",
    "gauge",
    "1 while expired events are proven to arrive, else 0: timers then fire by the sweep, on time.",
)
REDIS = Told(
    "celery_expiry_redis_up",
    "gauge",
    f"1 where the timers' Redis answered this scrape within {PATIENCE:g} s, else 0.",
)
BUILD = Told(
    "celery_expiry_build_info",
    "gauge",
    "Always 1; its labels are the versions of this package and of what it stands on.",
    ("version", "celery", "redis_py", "python"),
)
METRICS = (
    *SHARED.values(),
    FIRED,
    LATENESS,
    IN_PLACE,
    RECOVERED,
    DEAD_LETTERED,
    CALLED_OFF,
    SKIPPED,
    MISSED,
    NOTIFICATIONS,
    REDIS,
    BUILD,
)


class ExpiryCollector(Collector):
    """Collects when it is scraped.

    Arguments:
        notifications: answers whether the expired events of all shards are proven to arrive.
    """

    def __init__(self, figures: Figures, glance: Glance, notifications: Callable[[], bool]) -> None:
        self._figures = figures
        self._glance = glance
        self._notifications = notifications

    def collect(self) -> Iterator[Metric]:
        yield from self._of_redis()
        yield from _of_worker(self._figures.snapshot())
        yield _gauge(NOTIFICATIONS, self._notifications())
        build = GaugeMetricFamily(BUILD.name, BUILD.meaning, labels=BUILD.labels)
        build.add_metric(
            [version("celery-redis-expiry"), version("celery"), version("redis"), platform.python_version()],
            1,
        )
        yield build

    def _of_redis(self) -> Iterator[Metric]:
        try:
            seen = self._glance.look(PATIENCE)
        except StoreUnavailable:
            # no value at all is better than one of a moment ago: alerts tell the two apart
            yield _gauge(REDIS, 0)
            return
        yield _gauge(REDIS, 1)
        for field, told in SHARED.items():
            yield _gauge(told, getattr(seen, field))


def _of_worker(figures: Snapshot) -> Iterator[Metric]:
    fired = CounterMetricFamily(FIRED.name, FIRED.meaning, labels=FIRED.labels)
    lateness = HistogramMetricFamily(LATENESS.name, LATENESS.meaning, labels=LATENESS.labels)
    for how, latenesses in (("event", figures.by_event), ("sweep", figures.by_sweep)):
        fired.add_metric([how], latenesses.count)
        lateness.add_metric([how], _buckets(latenesses), latenesses.sum)
    yield fired
    yield lateness
    yield CounterMetricFamily(IN_PLACE.name, IN_PLACE.meaning, figures.in_place)
    yield CounterMetricFamily(RECOVERED.name, RECOVERED.meaning, figures.recovered)
    yield CounterMetricFamily(DEAD_LETTERED.name, DEAD_LETTERED.meaning, figures.buried)
    yield CounterMetricFamily(CALLED_OFF.name, CALLED_OFF.meaning, figures.called_off)
    yield CounterMetricFamily(SKIPPED.name, SKIPPED.meaning, figures.skipped)
    yield CounterMetricFamily(MISSED.name, MISSED.meaning, figures.missed)


def _buckets(latenesses: Latenesses) -> Sequence[tuple[str, float]]:
    counts = latenesses.up_to(LIMITS)
    limits = (*map(str, LIMITS), "+Inf")
    return list(zip(limits, (*counts, latenesses.count), strict=True))


def _gauge(told: Told, value: float) -> Metric:
    return GaugeMetricFamily(told.name, told.meaning, value)

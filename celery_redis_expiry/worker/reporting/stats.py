"""The block `expiry` of `celery inspect stats`."""

from __future__ import annotations

from typing import Any

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.reporting.figures import WINDOW, Snapshot
from celery_redis_expiry.worker.reporting.glance import Glance

#: Seconds for which Redis is waited for, while the worker does nothing else; `celery inspect` waits for one.
PATIENCE = 0.5


def block(
    store: Store, glance: Glance, figures: Snapshot, *, notifications: bool, not_in_place: str
) -> dict[str, Any]:
    """What an expiry worker tells of itself and of the timers; JSON-able.

    Arguments:
        store: whose timers these are; nothing is asked of it.
        notifications: whether the expired events of all shards are proven to arrive.
        not_in_place: why timers are not fired in place; "" where they are.

    Returns:
        The figures, and counts from Redis: None where it does not answer, and `error` then says why.
    """
    counts: dict[str, Any] = dict.fromkeys(("waiting", "parked", "due", "claimed", "dead"))
    error = {}
    try:
        seen = glance.look(PATIENCE)
        counts = {name: getattr(seen, name) for name in counts}
    except StoreUnavailable as exc:
        error = {"error": str(exc)}
    by_event, by_sweep, recent = figures.by_event.count, figures.by_sweep.count, figures.recent
    return {
        "redis": store.location.url,
        "namespace": store.namespace,
        "shards": len(store.shards),
        **counts,
        "fired": by_event + by_sweep,
        "fired_by_event": by_event,
        "fired_by_sweep": by_sweep,
        "fired_in_place": figures.in_place,
        "recovered": figures.recovered,
        "called_off": figures.called_off,
        "skipped": figures.skipped,
        "missed": figures.missed,
        "lateness": {
            "p50": _seconds(recent.quantile(0.5)),
            "p99": _seconds(recent.quantile(0.99)),
            "max": _seconds(recent.max if recent.count else None),
            "count": recent.count,
            "window": WINDOW,
        },
        "notifications": notifications,
        "in_place": not not_in_place,
        "not_in_place": not_in_place or None,
        **error,
    }


def _seconds(lateness: float | None) -> float | None:
    """To a tenth of a millisecond: Redis tells a due time in whole ones."""
    return None if lateness is None else round(lateness, 4)

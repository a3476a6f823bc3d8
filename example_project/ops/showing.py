"""What the operator's page shows: the next timers, the expiry workers' figures, the dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery_redis_expiry import StoreUnavailable, Timer, iter_dead_letters, iter_timers

from ops import figures
from shop.live import Lists, Piece, piece, redis_now

#: How many timers and dead letters the page shows.
SHOWN = 20
#: What of the workers' counts stands at the top, and under which words.
COUNTS = {"waiting": "Waiting", "due": "Due now", "claimed": "Being published", "dead": "Dead letters"}


@dataclass
class Operations:
    """All that the page shows, as it is now."""

    now: float | None
    lists: Lists


def operations() -> Operations:
    # First, as it takes its time: the page counts down from when it has read the timers.
    workers = figures.workers()
    try:
        timers = list(islice(iter_timers(states=("waiting",), page=SHOWN), SHOWN))
        letters = list(islice(iter_dead_letters(), SHOWN))
    except StoreUnavailable as error:
        return Operations(None, {"ops": [piece("redis-away", "ops/redis_away.html", error=error)]})
    pieces = [
        _summary(timers, workers),
        piece("next", "ops/next.html", timers=timers),
        piece("workers", "ops/workers.html", workers=workers),
        piece("dead", "ops/dead.html", letters=letters),
    ]
    return Operations(redis_now(timers), {"ops": pieces})


def _summary(timers: Sequence[Timer], workers: Sequence[figures.Worker]) -> Piece:
    # Of Redis they all tell the same; one that could not ask it has no counts.
    counts: dict[str, Any] = next((one.told for one in workers if one.told["waiting"] is not None), {})
    tiles = [(label, counts.get(name, "–")) for name, label in COUNTS.items()]
    slowest = max((one for one in workers if one.p99 is not None), key=lambda one: one.p99, default=None)
    return piece(
        "summary", "ops/summary.html", first=timers[:1], workers=workers, tiles=tiles, slowest=slowest
    )

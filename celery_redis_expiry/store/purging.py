"""Many timers forgotten at once: page by page, a script for each, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from celery_redis_expiry.keys import new_token
from celery_redis_expiry.selection import STATES, Selection
from celery_redis_expiry.store.listing import Row
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.store import Store

#: How many timers one script forgets: few enough to hold Redis up for a few milliseconds at most.
BULK = 100


class Purged(NamedTuple):
    """How many are forgotten, and how many were beyond recall: being published, or perhaps published."""

    purged: int
    claimed: int


def purge(store: Store, selection: Selection, progress: Callable[[int], None] = lambda seen: None) -> Purged:
    """Forget the timers that are meant and wait. One that is being published is left to finish.

    Arguments:
        progress: called with how many timers have been looked at since the last call.

    Raises:
        StoreUnavailable: Redis can't be reached or refuses; what was purged until then is. Run it again.
    """
    store.permit("operator")
    purged = claimed = 0
    for state in ("waiting", "parked"):
        if state not in selection.states:
            continue
        for shard in store.shards:
            pages = shard.pages(state, selection, BULK)
            rows = next(pages, None)
            while rows is not None:
                outcomes = _purge_page(shard, state, rows, selection)
                purged += sum(outcome == "cancelled" for outcome in outcomes.values())
                claimed += sum(outcome == "claimed" for outcome in outcomes.values())
                progress(len(rows))
                # those of the page's last due time shift the ones that are read next
                ties = sum(
                    score == rows[-1][1] and outcomes.get(member) in ("cancelled", "gone")
                    for member, score in rows
                )
                try:
                    rows = pages.send(ties)
                except StopIteration:
                    rows = None
    whatever = replace(selection, states=STATES)
    claimed += sum(whatever.takes(timer) for timer in store.timers("claimed"))
    return Purged(purged, claimed)


def _purge_page(shard: Shard, state: str, rows: list[Row], selection: Selection) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    members = shard.chosen(state, rows, selection)
    for start in range(0, len(members), BULK):
        batch = members[start : start + BULK]
        answers = shard.cancel(batch, new_token())
        outcomes.update(zip(batch, (answer for answer, _ in answers), strict=True))
    return outcomes

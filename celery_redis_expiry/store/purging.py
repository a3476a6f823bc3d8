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


def purge(
    store: Store,
    selection: Selection,
    *,
    cancelled: Callable[[list[str]], None] = lambda ids: None,
    progress: Callable[[int], None] = lambda seen: None,
) -> Purged:
    """Forget the timers that are meant and wait. One that is being published is left to finish.

    Arguments:
        cancelled: called with the task ids of those that will not fire, page by page.
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
                ids = [id for outcome, id in outcomes.values() if outcome == "cancelled"]
                cancelled(ids)
                purged += len(ids)
                claimed += sum(outcome == "claimed" for outcome, _ in outcomes.values())
                progress(len(rows))
                # those of the page's last due time shift the ones that are read next
                gone = {member for member, (outcome, _) in outcomes.items() if outcome != "claimed"}
                ties = sum(score == rows[-1][1] and member in gone for member, score in rows)
                try:
                    rows = pages.send(ties)
                except StopIteration:
                    rows = None
    whatever = replace(selection, states=STATES)
    claimed += sum(whatever.takes(timer) for timer in store.timers("claimed"))
    return Purged(purged, claimed)


def _purge_page(
    shard: Shard, state: str, rows: list[Row], selection: Selection
) -> dict[str, tuple[str, str]]:
    """What became of each member that is meant, and its task id."""
    outcomes: dict[str, tuple[str, str]] = {}
    members = shard.chosen(state, rows, selection)
    for start in range(0, len(members), BULK):
        batch = members[start : start + BULK]
        outcomes.update(zip(batch, shard.cancel(batch, new_token()), strict=True))
    return outcomes

"""A page of timers for the admin: soonest first, a place to go on from, a bound on what is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celery_redis_expiry.scheduling import get_timer
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store import Place, store_of
from celery_redis_expiry.timer import Timer, shown

#: How many timers a page shows.
SHOWN = 100
#: How many it looks at for those that fit; what lies beyond is the next page's.
LOOKED_AT = 5000
STATES = ("waiting", "parked", "claimed")
WILDCARD = re.compile(r"[*?\[]")
#: A place as it stands in a URL: its generation may be anything that somebody wrote into Redis.
PLACE = re.compile(r"(\d{1,15})-(\d{1,4})-((?:[0-9a-f]{2}){0,300})")


@dataclass(frozen=True)
class Filter:
    """What is asked for.

    Attributes:
        state: one of `STATES`.
        name: a name or task id, or a pattern for names.
        task: a pattern for the name of the task.
        after: the place to go on from, or "".
    """

    state: str = "waiting"
    name: str = ""
    task: str = ""
    after: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """From what stands in a URL; what makes no sense there is left out."""
        state, after = query.get("state", ""), query.get("after", "")
        return cls(
            state if state in STATES else STATES[0],
            query.get("name", "").strip(),
            query.get("task", "").strip(),
            after if PLACE.fullmatch(after) else "",
        )

    @property
    def place(self) -> Place | None:
        found = PLACE.fullmatch(self.after)
        if not found:
            return None
        return Place(int(found[1]), int(found[2]), bytes.fromhex(found[3]).decode(errors="surrogateescape"))


@dataclass(frozen=True)
class Row:
    """A timer as a row shows it.

    Attributes:
        id, name, task, args, kwargs, queue, watch: of the timer, as far as they can be shown: what others
            wrote into Redis may be no text.
        due: when it fires, or None.
        remaining: until then, rounded to seconds, or None.
        state: of the timer.
    """

    id: str
    name: str
    task: str
    args: str
    kwargs: str
    queue: str
    watch: str
    due: datetime | None
    remaining: timedelta | None
    state: str

    @classmethod
    def of(cls, timer: Timer) -> Row:
        names = ("id", "name", "task", "args", "kwargs", "queue", "watch")
        return cls(
            **{name: shown(getattr(timer, name) or "") for name in names},
            due=timer.due,
            remaining=None if timer.remaining is None else timedelta(seconds=round(timer.remaining)),
            state=timer.state,
        )


@dataclass(frozen=True)
class Page:
    """What is shown.

    Attributes:
        after: the place where the next page begins, or "" where this is the last.
        counts: how many timers there are in each state, and dead letters.
    """

    rows: list[Row] = field(default_factory=list)
    after: str = ""
    counts: dict[str, int] = field(default_factory=dict)


def page_of(app: Any, wanted: Filter) -> Page:
    """Read a page.

    Raises:
        ExpiryError: Redis can't be reached, or is not configured.
    """
    store = store_of(app)
    counts = store.counts()
    if wanted.name and not WILDCARD.search(wanted.name):
        timer = get_timer(wanted.name, app=app)
        return Page([Row.of(timer)] if timer else [], "", counts)
    # by where they lie: one that was just parked lies among those that wait
    selection = Selection(task=wanted.task or None, name=wanted.name or None)
    rows: list[Row] = []
    looked_at, last = 0, None
    size = LOOKED_AT // 10 if wanted.name or wanted.task else SHOWN
    for place, timer in store.listed(wanted.state, Selection(), after=wanted.place, page=size):
        if len(rows) == SHOWN or looked_at == LOOKED_AT:
            assert last is not None
            generation = last.generation.encode(errors="surrogateescape").hex()
            return Page(rows, f"{last.score}-{last.shard}-{generation}", counts)
        looked_at, last = looked_at + 1, place
        if selection.takes(timer):
            rows.append(Row.of(timer))
    return Page(rows, "", counts)


def timers_of(app: Any, ids: list[str]) -> list[Row]:
    """Those of these task ids that wait still."""
    found = (get_timer(app.AsyncResult(id), app=app) for id in ids)
    return [Row.of(timer) for timer in found if timer is not None]

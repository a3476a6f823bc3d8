"""A namespace as JSON lines: all timers and dead letters exactly as they lie, from one Redis to another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from celery_redis_expiry.errors import BadExport, NamespaceTaken
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import FORMAT, Lain, Undecodable, as_datetime
from celery_redis_expiry.transfer.lines import HOMES, VERSION, header, parsed, read, written

__all__ = ["exported", "header", "imported"]

#: How many timers are read or put by one script.
BULK = 50

Progress = Callable[[int], None]


def exported(store: Store, progress: Progress = lambda count: None) -> Iterator[str]:
    """The lines of a file, each without its end, read while they are taken.

    Arguments:
        progress: called with how many timers and dead letters were read since the last call.

    Raises:
        StoreUnavailable: Redis can't be reached or refuses.
    """
    owner = store.ownership()
    yield json.dumps(
        {
            "celery_redis_expiry": VERSION,
            "format": FORMAT,
            "namespace": store.namespace,
            "app": owner[1] if owner else store.owner,
            "broker": owner[2] if owner else None,
            "exported": as_datetime(store.now()).isoformat(),
            "counts": store.counts(),
        }
    )
    lines = 0
    for shard in store.shards:
        for state, home in HOMES.items():
            for rows in shard.pages(state, Selection(), BULK):
                members = [member for member, _ in rows]
                for start in range(0, len(members), BULK):
                    found = shard.read(home, members[start : start + BULK])
                    yield from map(written, found)
                    lines += len(found)
                progress(len(rows))
    yield json.dumps({"end": lines})


def imported(
    store: Store,
    lines: Iterable[str],
    *,
    replace: bool = False,
    adopt: bool = False,
    dry: bool = False,
    progress: Progress = lambda count: None,
    bad: Callable[[int, str], None] = lambda number, why: None,
) -> dict[str, int]:
    """Put what a file holds into this namespace. Running it again does no harm while no expiry worker runs.

    Arguments:
        lines: of the file.
        replace: cancel what waits under the name or task id of a timer of the file; else that one is kept.
        adopt: take the timers of another app, too.
        dry: only check the file.
        progress: called with how many lines were dealt with since the last call.
        bad: called with the number of a line (from 1) that can't be used, and why; it is passed over.

    Returns:
        How many were `put`, `replaced`, `here` already, `kept` (another timer waits under their name or task
        id, and goes on waiting) or `bad`; of a dry run, how many are `good`.

    Raises:
        BadExport: the file is none, or can't be taken, and nothing is stored; or it is incomplete, and what
            it holds is stored.
        NamespaceTaken: the namespace is another app's.
        StoreUnavailable: Redis can't be reached or refuses; run it again.
    """
    numbered = enumerate(lines, 1)
    _check_header(store, next(numbered, (1, ""))[1], adopt)
    counts: Counter[str] = Counter()
    batch: list[Lain] = []
    end = None

    def flush() -> None:
        counts.update(["good"] * len(batch) if dry else store.put(batch, replace=replace))
        progress(len(batch))
        batch.clear()

    for number, line in numbered:
        if not line.strip():
            continue
        try:
            data = parsed(line)
            if end is not None:
                raise ValueError("it stands behind the end")
            if isinstance(data, dict) and "end" in data:
                end = data["end"]
                continue
            batch.append(read(data))
        except (ValueError, Undecodable) as exc:
            counts["bad"] += 1
            bad(number, str(exc))
        if len(batch) >= BULK:
            flush()
    flush()
    if end != counts.total():
        raise BadExport(
            f"the file is incomplete: it has {counts.total()} timers and dead letters, and "
            + ("no end" if end is None else f"says that it has {end}")
            + ("" if dry else ". What it has is stored: get the whole file, and run this again")
        )
    return dict(counts)


def _check_header(store: Store, line: str, adopt: bool) -> None:
    told = header(line)
    if told.get("app") != store.owner and not adopt:
        raise BadExport(
            f"the file holds the timers of the app {told.get('app')!r}, this is {store.owner!r}: give "
            "--adopt if they are to be this app's"
        )
    owner = store.ownership()
    if owner and owner[1] != store.owner:
        raise NamespaceTaken(
            f"the namespace {store.namespace!r} in {store.location.url} belongs to the app {owner[1]!r}, "
            f"this is {store.owner!r}: set another expiry_namespace"
        )

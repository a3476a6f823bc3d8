"""When a user's own key is due, looked up by who schedules a timer for it.

Whoever watches keys hears of the timer a moment later, and the key may be gone by then: without this nobody
could say whether it had expired, or never was.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from celery_redis_expiry.connections import locate, locate_watched
from celery_redis_expiry.store import AnyLink, Calls

_links: WeakKeyDictionary[Calls, AnyLink] = WeakKeyDictionary()


async def due_of_key(calls: Calls, app: Any, key: str) -> int | None:
    """When a key expires, in ms on the clock of the timers' Redis; None if it has no TTL or is not there.

    Raises:
        NotConfigured: `expiry_watch_url` is unusable.
        StoreUnavailable: its Redis can't be reached or refuses.
    """
    link = _links.get(calls)
    if link is None:
        location = locate_watched(app)
        link = _links[calls] = calls.link if location == locate(app) else type(calls.link)(location)
    # the clock first: a due time that is too early by a round trip does no harm; one that is yet to come when
    # the key has expired says that it was deleted
    [first, *_] = await calls.shards()
    now = await first.clock()
    with link.translated():
        ttl = int(await link.execute("PTTL", key.encode(errors="surrogateescape")))
    return now + ttl if ttl >= 0 else None

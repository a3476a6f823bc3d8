"""The timers in Redis: the only package that speaks to it for them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from weakref import WeakKeyDictionary

from celery_redis_expiry.connections import RETRIES, TIMEOUT, Location, locate
from celery_redis_expiry.store.async_link import AsyncLink
from celery_redis_expiry.store.beat import OWNER, Kept
from celery_redis_expiry.store.calls import Calls
from celery_redis_expiry.store.claiming import RECHECK_MS, CalledOff, Claims, Guarded
from celery_redis_expiry.store.clocked import AsyncClockedLink, AsyncMemoryLink, ClockedLink, MemoryLink
from celery_redis_expiry.store.firing import OLDEST, SLICE, Due, Filled, Fired
from celery_redis_expiry.store.link import AnyLink, Link
from celery_redis_expiry.store.listing import Place
from celery_redis_expiry.store.purging import Purged, purge
from celery_redis_expiry.store.recurring import Rearm, Recurs
from celery_redis_expiry.store.resharding import Unready, awake, reshard, stored
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.snapshot import Snapshot, snapshot
from celery_redis_expiry.store.store import Store
from celery_redis_expiry.store.watched import Delivery, Note, NotLeading
from celery_redis_expiry.store.workers import Look

__all__ = [
    "OLDEST",
    "OWNER",
    "RECHECK_MS",
    "SLICE",
    "AnyLink",
    "AsyncClockedLink",
    "AsyncLink",
    "CalledOff",
    "Calls",
    "Claims",
    "ClockedLink",
    "Delivery",
    "Due",
    "Filled",
    "Fired",
    "Guarded",
    "Kept",
    "Link",
    "Look",
    "NotLeading",
    "Note",
    "Place",
    "Purged",
    "Rearm",
    "Recurs",
    "Shard",
    "Snapshot",
    "Store",
    "Unready",
    "awake",
    "calls_of",
    "calls_on_loop",
    "forget_stores",
    "new_store",
    "purge",
    "reshard",
    "snapshot",
    "store_of",
    "stored",
    "use_links",
    "use_store",
]

#: Ways to Redis: one that blocks, and one that is awaited.
Links = tuple[type[Link], type[AsyncLink]]

#: Seconds for which a user's call waits while a Cluster migrates the slot that it concerns.
PATIENCE = 10.0

_stores: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()
#: By app and event loop. What belongs to a loop refers to it, so that no weak reference would ever end.
_on_loops: WeakKeyDictionary[Any, dict[asyncio.AbstractEventLoop, Calls]] = WeakKeyDictionary()
_making = threading.Lock()
#: How apps come to Redis that don't as all do: `testing` has a say in that.
_links: WeakKeyDictionary[Any, Links] = WeakKeyDictionary()


def store_of(app: Any) -> Store:
    """The store of a Celery app for users' calls, made once.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    store = _stores.get(app)
    if store is None:
        location = locate(app)
        kind = _links_of(app, location)[0]
        # a test's are no connections, or go by another clock
        link = kind(location, patience=PATIENCE, hold=kind is Link)
        store = _stores[app] = Store(link, Calls.of(app, link))
    return store


def calls_of(app: Any) -> Calls:
    """What users' calls do to the timers of a Celery app, over a link that blocks."""
    return store_of(app).calls


def use_store(app: Any, store: Store) -> None:
    """Make a store the one for calls of this app in this process."""
    _stores[app] = store


def use_links(app: Any, links: Links | None) -> None:
    """Let an app come to Redis in another way from now on; None: as all apps do."""
    if links is None:
        _links.pop(app, None)
    else:
        _links[app] = links
    forget_stores(app)


def forget_stores(app: Any) -> None:
    """Make the stores of an app anew when they are next asked for: its settings are others now."""
    _stores.pop(app, None)
    _on_loops.pop(app, None)


def _links_of(app: Any, location: Location) -> Links:
    if app in _links:
        return _links[app]
    return (Link, AsyncLink) if location.memory is None else (MemoryLink, AsyncMemoryLink)


def new_store(app: Any, *, timeout: float = TIMEOUT, retries: int = RETRIES, patience: float = 0.0) -> Store:
    """A store of a Celery app with a way to Redis of its own.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a call is repeated after a lost connection.
        patience: seconds for which a call waits for a Cluster slot in migration.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    location = locate(app)
    link = _links_of(app, location)[0](location, timeout=timeout, retries=retries, patience=patience)
    return Store(link, Calls.of(app, link))


def calls_on_loop(app: Any) -> Calls:
    """What users' calls do to the timers of a Celery app, over a link of the running event loop; made once.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    loop = asyncio.get_running_loop()
    with _making:
        on_loops = _on_loops.setdefault(app, {})
        if loop not in on_loops:
            for ended in [each for each in on_loops if each.is_closed()]:
                del on_loops[ended]
            location = locate(app)
            link = _links_of(app, location)[1](location, patience=PATIENCE)
            on_loops[loop] = Calls.of(app, link)
        return on_loops[loop]

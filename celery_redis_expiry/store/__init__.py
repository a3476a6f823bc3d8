"""The timers in Redis: the only package that speaks to it for them."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from celery_redis_expiry.connections import RETRIES, TIMEOUT, locate
from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.settings import NAMESPACE, Settings
from celery_redis_expiry.store.claiming import RECHECK_MS, CalledOff, Claims, Guarded
from celery_redis_expiry.store.firing import SLICE, Fired
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.listing import Place
from celery_redis_expiry.store.purging import Purged, purge
from celery_redis_expiry.store.resharding import Unready, awake, reshard, stored
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.snapshot import Snapshot, snapshot
from celery_redis_expiry.store.store import Store
from celery_redis_expiry.store.watched import Delivery, Note, NotLeading
from celery_redis_expiry.store.workers import Look

__all__ = [
    "RECHECK_MS",
    "SLICE",
    "CalledOff",
    "Claims",
    "Delivery",
    "Fired",
    "Guarded",
    "Link",
    "Look",
    "NotLeading",
    "Note",
    "Place",
    "Purged",
    "Shard",
    "Snapshot",
    "Store",
    "Unready",
    "awake",
    "new_store",
    "purge",
    "reshard",
    "snapshot",
    "store_of",
    "stored",
    "use_store",
]

#: Seconds for which a user's call waits while a Cluster migrates the slot that it concerns.
PATIENCE = 10.0

_stores: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()


def store_of(app: Any) -> Store:
    """The store of a Celery app for users' calls, made once.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    store = _stores.get(app)
    if store is None:
        store = _stores[app] = new_store(app, patience=PATIENCE)
    return store


def use_store(app: Any, store: Store) -> None:
    """Make a store the one for calls of this app in this process."""
    _stores[app] = store


def new_store(app: Any, *, timeout: float = TIMEOUT, retries: int = RETRIES, patience: float = 0.0) -> Store:
    """A store of a Celery app with a way to Redis of its own.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a call is repeated after a lost connection.
        patience: seconds for which a call waits for a Cluster slot in migration.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    settings = Settings.of(app)
    owner = app.main or "celery"
    namespace = settings.namespace or owner
    if not NAMESPACE.fullmatch(namespace):
        raise NotConfigured(
            f"the app's main name {owner!r} can't serve as a namespace: set expiry_namespace to letters, "
            "digits or _ . @ / -"
        )
    return Store(
        Link(locate(app), timeout=timeout, retries=retries, patience=patience),
        namespace,
        owner,
        shards=settings.shards,
        replicas=settings.wait_replicas,
        replicas_timeout=settings.wait_replicas_timeout,
    )

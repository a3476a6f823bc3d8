"""The timers in Redis: the only package that speaks to it for them."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from celery_redis_expiry.connections import locate
from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.settings import NAMESPACE, Settings
from celery_redis_expiry.store.dead_letters import DeadLetters
from celery_redis_expiry.store.users import Users
from celery_redis_expiry.store.workers import RECHECK_MS, Look, Workers

__all__ = ["RECHECK_MS", "Look", "Store", "store_of"]


class Store(Users, Workers, DeadLetters):
    """The timers of one namespace in one Redis."""

    def counts(self) -> dict[str, int]:
        """How many timers are waiting, parked and claimed, and how many dead letters there are."""
        k = self.keys
        with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for key in (k.due, k.parked, k.claimed, k.dead):
                pipe.zcard(key)
            due, parked, claimed, dead = pipe.execute()
        return {"waiting": due, "parked": parked, "claimed": claimed, "dead": dead}


_stores: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()


def store_of(app: Any) -> Store:
    """The store of a Celery app, made once.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    store = _stores.get(app)
    if store is None:
        owner = app.main or "celery"
        namespace = Settings.of(app).namespace or owner
        if not NAMESPACE.fullmatch(namespace):
            raise NotConfigured(
                f"the app's main name {owner!r} can't serve as a namespace: set expiry_namespace to letters, "
                "digits or _ . @ / -"
            )
        store = _stores[app] = Store(locate(app), namespace, owner)
    return store

"""An app that has, for the time of a test, a store of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from celery_redis_expiry import hooks
from celery_redis_expiry.conf import spellings
from celery_redis_expiry.connections import MEMORY, forget_memory
from celery_redis_expiry.eager import keeping
from celery_redis_expiry.errors import NotConfigured
from celery_redis_expiry.keys import Channels
from celery_redis_expiry.store import (
    AsyncClockedLink,
    ClockedLink,
    Store,
    forget_stores,
    store_of,
    use_links,
)
from celery_redis_expiry.testing.clock import ExpiryClock
from celery_redis_expiry.testing.eager import countdowns_kept
from celery_redis_expiry.testing.moving import ProcessClock
from celery_redis_expiry.testing.running import Here, Worker

#: Where tasks run that fire.
RUN = ("here", "worker")


@contextmanager
def expiry_clock_of(app: Any, *, redis_url: str = "memory://", run: str = "here") -> Iterator[ExpiryClock]:
    """Keep the timers of an app in a store of their own, and fire them by a clock: without pytest, too.

    Nothing is read of, or written to, the Redis that the app is configured with. At the end what is left of
    the timers is gone.

    Arguments:
        app: the Celery app.
        redis_url: a Redis for tests, as `expiry_redis_url` takes it: the timers lie under a namespace of
            their own there, and nothing else in it is touched. Default: in memory, without any Redis.
        run: where tasks run that fire: `here`, in this process, or by a `worker`, to which their messages
            go through the app's broker, and which is waited for.

    Raises:
        NotConfigured: an argument is unusable, or what it needs is not installed.
        StoreUnavailable: Redis can't be reached.
    """
    if run not in RUN:
        raise NotConfigured(f"run must be one of {', '.join(RUN)}, not {run!r}")
    name = f"test-{uuid4().hex}"
    in_memory = redis_url.partition("://")[0] == MEMORY
    settings: dict[str, Any] = {
        "expiry_redis_url": f"{MEMORY}://{name}" if in_memory else redis_url,
        "expiry_redis_options": None,
        "expiry_watch_url": None,
        "expiry_namespace": name,
    }
    if run == "here":
        # nobody need be there to hear of it
        settings["task_send_sent_event"] = False
    with ExitStack() as until:
        until.enter_context(_configured(app, settings))
        until.enter_context(keeping(app))
        until.enter_context(countdowns_kept())
        use_links(app, None if in_memory else (ClockedLink, AsyncClockedLink))
        until.callback(use_links, app, None)
        hooks.forget_stores(app)
        until.callback(hooks.forget_stores, app)
        process = ProcessClock()
        until.callback(process.close)
        store = store_of(app)
        if store.namespace != name or (in_memory and store.location.memory != name):
            # before Celery 5.7 what an object says under names with a prefix comes first
            raise NotConfigured(
                "the app's settings can't be overridden for the test: where they come from, expiry_redis_url "
                "must be left out, and expiry_namespace too, while tests run"
            )
        until.callback(forget_memory, name) if in_memory else until.callback(_clean, store)
        # whatever is wrong with it is better known now
        store.now()
        yield ExpiryClock(app, store, Here(app) if run == "here" else Worker(app, store), process)


@contextmanager
def _configured(app: Any, settings: dict[str, Any]) -> Iterator[None]:
    # by all their names: one with a prefix, as in Django's settings, comes first in some releases of Celery
    named = {key: value for name, value in settings.items() for key in spellings(app, name)}
    before = {key: app.conf.get(key) for key in named}
    app.conf.update(named)
    try:
        yield
    finally:
        app.conf.update(before)
        forget_stores(app)


def _clean(store: Store) -> None:
    """Delete the keys of this namespace, whose name no other has."""
    channels = Channels(store.namespace, store.location.prefix, len(store.shards), store.location.database)
    client: Any = store.link.client
    for key in list(client.scan_iter(match=channels.keys, count=1000)):
        client.unlink(key)
    client.close()

"""What is heard of Redis: one ear for each primary that owns timers, however a Cluster's topology changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.listener import Listener
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.notifications import Notifications

logger = logging.getLogger(__name__)

#: Seconds between two questions for a Cluster's topology; less while something is not heard.
REFRESH = (1.0, 10.0)
#: Seconds that the parts of an ear have to stop.
STOP_TIMEOUT = 5.0

Poke = Callable[[int | None, int | None], None]


class Ear:
    """A listener on one primary, and the proof that what it listens for is sent."""

    def __init__(self, listener: Listener, notifications: Notifications) -> None:
        self.listener = listener
        self.notifications = notifications
        self._loops = (notifications, listener)

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def stop(self, timeout: float) -> bool:
        for loop in self._loops:
            loop.stop(0)
        ended = [loop.stop(timeout) for loop in self._loops]
        return all(ended)


class Hearing(Loop):
    """One pass: ask who the primaries are, and see that each has an ear.

    Arguments:
        store: with a way to Redis that nothing else uses: its picture of a Cluster is refreshed here.
        configure: whether the servers may be configured (`expiry_configure_notifications`).
        follow: whether foreign changes of a TTL are followed (`expiry_follow_foreign_ttl`).

    Attributes:
        poke: called with a shard and a due time (ms) when an earlier timer was scheduled; with None for the
            due time after a gap; with None for the shard too where all are meant.
        watch: called with a shard and a member when a timer was scheduled that waits for a user's key.
    """

    name = "hearing"

    def __init__(self, store: Store, lanes: Lanes, *, configure: bool, follow: bool) -> None:
        super().__init__()
        self.poke: Poke = lambda shard, due: None
        self.watch: Callable[[int, str], None] = lambda shard, member: None
        self._store = store
        self._lanes = lanes
        self._configure = configure
        self._follow = follow
        self._ears: dict[Primary, Ear] = {}
        self._owners: dict[int, Ear] = {}
        self._again = threading.Event()

    def events(self, shard: int) -> bool:
        """Whether the expired events of this shard are proven to arrive."""
        ear = self._owners.get(shard)
        return ear is not None and ear.notifications.on

    @property
    def on(self) -> bool:
        """Whether those of all shards are."""
        owners = self._owners
        return bool(owners) and all(self.events(shard) for shard in owners)

    def wakes(self, shard: int) -> bool:
        """Whether a wake-up for this shard would be heard. A Cluster tells it on every node."""
        return any(ear.notifications.subscribed for ear in list(self._ears.values()))

    def doubt(self, shard: int) -> None:
        """An event did not come: prove that they do."""
        ear = self._owners.get(shard)
        if ear is not None:
            ear.listener.doubt()
            ear.notifications.check()
        self._again.set()

    def settle(self, timeout: float) -> bool:
        """Wait until each ear knows whether events arrive, so long at most; returns whether they do."""
        deadline = time.monotonic() + timeout
        for ear in list(self._ears.values()):
            ear.notifications.settled.wait(max(0.0, deadline - time.monotonic()))
        return self.on

    def start(self) -> None:
        # the first ears before anything else looks at the index: what expires meanwhile must be heard
        try:
            self._see_to_ears()
        except StoreUnavailable as exc:
            logger.warning(
                "expiry: %s; listening as soon as it answers",
                exc,
                extra=log_fields("redis_lost", part=self.name, reason=str(exc)),
            )
        super().start()

    def interrupt(self) -> None:
        self._again.set()

    def one_pass(self) -> None:
        cluster = bool(self._store.location.cluster)
        if self._ears and not cluster:
            self.stopping.wait()
            return
        deaf = not self._ears or not all(ear.notifications.subscribed for ear in self._ears.values())
        self._again.wait(REFRESH[0] if deaf else REFRESH[1])
        self._again.clear()
        if self.stopping.wait(REFRESH[0]):
            return
        try:
            if cluster:
                self._store.refresh()
        except StoreUnavailable as exc:
            logger.debug("expiry: the Cluster's topology could not be asked for: %s", exc)
            return
        self._see_to_ears()

    def _see_to_ears(self) -> None:
        owned = self._store.primaries()
        gone = [primary for primary in self._ears if primary not in owned]
        for primary, shards in owned.items():
            keys = self._store.shards[shards[0]].keys
            if primary in self._ears:
                self._ears[primary].notifications.use(keys)
            else:
                self._ears[primary] = self._new_ear(primary)
                self._ears[primary].notifications.keys = keys
                if len(self._ears) > 1:
                    logger.info(
                        "expiry: listening to %s, which owns %d shards",
                        primary.name,
                        len(shards),
                        extra=log_fields("primary_new", primary=primary.name, count=len(shards)),
                    )
                self._ears[primary].start()
        owners = {shard: self._ears[primary] for primary, shards in owned.items() for shard in shards}
        moved = {shard for shard, ear in owners.items() if self._owners.get(shard) is not ear}
        self._owners = owners
        for shard in moved:
            self.poke(shard, None)
        for primary in gone:
            logger.info(
                "expiry: no longer listening to %s, which owns no shard any more",
                primary.name,
                extra=log_fields("primary_gone", primary=primary.name),
            )
            self._ears.pop(primary).stop(0)

    def _new_ear(self, primary: Primary) -> Ear:
        notifications = Notifications(primary, configure=self._configure, follow=self._follow)
        listener = Listener(
            self._store,
            primary,
            self._lanes,
            notifications,
            poke=lambda shard, due: self.poke(shard, due),
            watch=lambda shard, member: self.watch(shard, member),
            hears_wake=lambda shard: self._hears_wake(primary, shard),
            follow=self._follow,
        )
        return Ear(listener, notifications)

    def _hears_wake(self, primary: Primary, shard: int) -> bool:
        """A Cluster tells every node of a wake-up; the ear of its owner is enough, while it hears."""
        owner = self._owners.get(shard)
        return owner is None or owner is self._ears.get(primary) or not owner.notifications.subscribed

    def close(self) -> None:
        for ear in self._ears.values():
            ear.stop(STOP_TIMEOUT)

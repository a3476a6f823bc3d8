"""The listener: the expired events of one primary to timers, wake-ups to the pacer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import PROBE, label_of
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.notifications import Notifications
from celery_redis_expiry.worker.subscription import Message, Subscription

logger = logging.getLogger(__name__)

#: Seconds that a pass waits for a message at most, and so a stop for it.
PATIENCE = 1.0
#: How many changed trigger keys are followed in one script.
FOLLOWED = 100
#: How many wait to be followed at most; those that find no place fire at their indexed due time.
MOST_MOVED = 10_000
#: The events of a trigger key that may have moved its timer.
MOVES = frozenset({"expire", "persist", "set", "restore", "rename_to", "copy_to"})


class Listener(Loop):
    """Hears what expires.

    Arguments:
        poke: called with a shard and a due time (ms) when an earlier timer was scheduled, with None for both
            after a gap.
        watch: called with a shard and a member when a timer was scheduled that waits for a user's key.
        hears_wake: whether a wake-up for a shard is this listener's to tell.
        follow: whether foreign changes of a TTL are followed (`expiry_follow_foreign_ttl`).
    """

    name = "listener"

    def __init__(
        self,
        store: Store,
        primary: Primary,
        lanes: Lanes,
        notifications: Notifications,
        *,
        poke: Callable[[int | None, int | None], None],
        watch: Callable[[int, str], None],
        hears_wake: Callable[[int], bool],
        follow: bool,
    ) -> None:
        super().__init__()
        self._store = store
        self._lanes = lanes
        self._notifications = notifications
        self._poke = poke
        self._watch = watch
        self._hears_wake = hears_wake
        self._follow = follow
        self._moved: dict[tuple[int, str], None] = {}
        self._follow_after = 0.0
        self._subscription = Subscription(primary, store.channels())

    def doubt(self) -> None:
        """Ask the connection for a sign of life: it may be half-open."""
        self._subscription.doubt()

    def one_pass(self) -> None:
        try:
            self._hear()
        except StoreUnavailable:
            if self._notifications.subscribed:
                self._notifications.listening(False)
                self._poke(None, None)
            raise

    def _hear(self) -> None:
        heard = 0
        for message in self._subscription.messages(PATIENCE):
            if message.kind == "expired":
                self._expired(message.shard, message.text)
            elif message.kind == "many":
                self._lanes.fire_all(message.shard, message.members)
            elif message.kind == "wake":
                self._woken(message)
            elif message.kind == "subscribed":
                # what was said before this moment was not heard: the index knows it
                self._notifications.listening(True)
                self._poke(None, None)
            elif self._follow and message.kind in MOVES:
                heard += 1
                if len(self._moved) < MOST_MOVED:
                    self._moved[message.shard, message.text] = None
                if heard >= FOLLOWED:
                    break
        self._follow_moved()

    def _follow_moved(self) -> None:
        if time.monotonic() < self._follow_after:
            return
        for shard in {shard for shard, _ in self._moved}:
            members = [member for number, member in self._moved if number == shard][:FOLLOWED]
            try:
                self._store.shards[shard].touch(members)
            except StoreUnavailable as exc:
                # the subscription is another connection, and may be well: these are tried again
                logger.debug("expiry listener: changed trigger keys are not followed yet: %s", exc)
                self._follow_after = time.monotonic() + PATIENCE
            else:
                for member in members:
                    del self._moved[shard, member]

    def close(self) -> None:
        self._subscription.close()

    def _expired(self, shard: int, member: str) -> None:
        if label_of(member) == PROBE:
            self._notifications.arrived(member)
        else:
            self._lanes.fire(shard, member)

    def _woken(self, message: Message) -> None:
        text = message.text
        if not self._hears_wake(message.shard):
            return
        if text.startswith("!"):
            self._lanes.fire(message.shard, text[1:])
        elif text.isascii() and text.isdigit() and len(text) < 16:
            self._poke(message.shard, int(text))
        elif text.startswith("?"):
            self._watch(message.shard, text[1:])
        else:
            logger.debug("expiry listener: ignored %r on the wake channel", text[:100])

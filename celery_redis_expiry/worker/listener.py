"""The listener: expired events to timers, wake-ups to the pacer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import PROBE, label_of
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.notifications import Notifications
from celery_redis_expiry.worker.subscription import Subscription

logger = logging.getLogger(__name__)

#: Seconds that a pass waits for a message at most, and so a stop for it.
PATIENCE = 1.0
#: How many changed trigger keys are followed in one script.
FOLLOWED = 100
#: The events of a trigger key that may have moved its timer.
MOVES = frozenset({"expire", "persist", "set", "restore", "rename_to", "copy_to"})


class Listener(Loop):
    """Hears what expires.

    Arguments:
        poke: called with a due time (ms) when an earlier timer was scheduled, with None after a gap.
        follow: whether foreign changes of a TTL are followed (`expiry_follow_foreign_ttl`).
    """

    name = "listener"

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        notifications: Notifications,
        poke: Callable[[int | None], None],
        *,
        follow: bool,
    ) -> None:
        super().__init__()
        self._store = store
        self._lanes = lanes
        self._notifications = notifications
        self._poke = poke
        self._follow = follow
        self._subscription = Subscription(store.location, store.keys)

    def one_pass(self) -> None:
        try:
            self._hear()
        except StoreUnavailable:
            if self._notifications.subscribed:
                self._notifications.listening(False)
                self._poke(None)
            raise

    def _hear(self) -> None:
        moved: dict[str, None] = {}
        for message in self._subscription.messages(PATIENCE):
            if message.kind == "expired":
                self._expired(message.text)
            elif message.kind == "wake":
                self._woken(message.text)
            elif message.kind == "subscribed":
                # what was said before this moment was not heard: the index knows it
                self._notifications.listening(True)
                self._poke(None)
            elif self._follow and message.kind in MOVES:
                moved[message.text] = None
                if len(moved) >= FOLLOWED:
                    break
        if moved:
            self._store.touch(list(moved))

    def close(self) -> None:
        self._subscription.close()

    def _expired(self, member: str) -> None:
        if label_of(member) == PROBE:
            self._notifications.arrived(member)
        else:
            self._lanes.fire(member)

    def _woken(self, text: str) -> None:
        if text.startswith("!"):
            self._lanes.fire(text[1:])
        elif text.isascii() and text.isdigit() and len(text) < 16:
            self._poke(int(text))
        else:
            logger.debug("expiry listener: ignored %r on the wake channel", text[:100])

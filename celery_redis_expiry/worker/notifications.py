"""Keyspace notifications: switched on, proven with a probe key, and watched for when they stop."""

from __future__ import annotations

import logging
import threading

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import PROBE, Keys, member, new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.worker.flags import add_flags
from celery_redis_expiry.worker.loop import Loop

logger = logging.getLogger(__name__)

#: Seconds to wait for a probe's event, after each of which the probe key is asked for once more.
PATIENCE = (0.003, 0.02, 0.1, 1.0)
#: How a Cluster's node says that the shard is not its own now; before redis-py 8, in a plain error's text.
ELSEWHERE = (redis_errors.AskError, redis_errors.ClusterDownError, redis_errors.TryAgainError)
#: Seconds between two checks while the events do not arrive.
RECHECK = 60.0


class Notifications(Loop):
    """Whether expired events arrive from one primary.

    Arguments:
        configure: whether the server may be configured (`expiry_configure_notifications`).
        follow: whether the events of foreign TTL changes are needed as well.

    Attributes:
        subscribed: whether the listener hears anything at all, wake-ups too.
        on: True only while they are proven to arrive; otherwise the pacer claims by itself, on time.
        keys: of a shard that the primary owns.
    """

    keys: Keys

    name = "notifications"

    def __init__(self, primary: Primary, *, configure: bool, follow: bool) -> None:
        super().__init__()
        self.on = False
        self.subscribed = False
        self.settled = threading.Event()
        self._client = primary.client()
        self._where = f" from {primary.name}" if primary.name else ""
        self._wanted = "Kxg" if follow else "Kx"
        self._configure = configure
        self._check = threading.Event()
        self._arrived = threading.Event()
        self._probe = ""
        self._obstacle = ""
        self._warned = ""

    def listening(self, subscribed: bool) -> None:
        """The listener has a new connection, or lost the one it had."""
        self.subscribed = subscribed
        self.check()

    def use(self, keys: Keys) -> None:
        """Prove with a key of another shard, where the primary has lost the one it was proven with."""
        if keys is not self.keys:
            self.keys = keys
            self.check()

    def check(self) -> None:
        """Prove anew: the connection is a new one, or an event did not come."""
        self.on = False
        self._check.set()

    def arrived(self, probe: str) -> None:
        """The listener heard of a probe key."""
        if probe == self._probe:
            self._arrived.set()

    def interrupt(self) -> None:
        self._check.set()
        self._arrived.set()

    def one_pass(self) -> None:
        known_good = self.on or not self.settled.is_set()
        if not self._check.wait(None if known_good else RECHECK) and self.on:
            return
        if self.stopping.is_set():
            return
        self._check.clear()
        try:
            self._obstacle = add_flags(self._client, self._wanted)[1] if self._configure else ""
            self.on = self._prove()
        except redis_errors.RedisError as exc:
            self._check.set()
            raise StoreUnavailable(str(exc)) from exc
        self._tell(self._obstacle)
        self.settled.set()

    def _prove(self) -> bool:
        probe = self._probe = member(new_token(), PROBE)
        self._arrived.clear()
        key = self.keys.trigger(probe)
        try:
            self._client.set(key, "", px=1)
        except redis_errors.ConnectionError:
            raise
        except redis_errors.ResponseError as exc:
            if isinstance(exc, ELSEWHERE) or str(exc).startswith(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")):
                raise
            self._obstacle = f"no probe key could be set: {exc}"
            return False
        for patience in PATIENCE:
            if self._arrived.wait(patience):
                return not self.stopping.is_set()
            # asking for a key whose time has come makes Redis delete it and send the event
            self._client.exists(key)
        return False

    def _tell(self, obstacle: str) -> None:
        if self.on:
            if self._warned:
                logger.info(
                    "expiry: keyspace notifications arrive again%s",
                    self._where,
                    extra=log_fields("notifications_back"),
                )
            self._warned = ""
            return
        reason = obstacle or (
            "they don't arrive" if self._configure else "expiry_configure_notifications is off"
        )
        if reason != self._warned:
            logger.warning(
                "expiry: no keyspace notifications%s: %s. Timers fire on time all the same, by the index; "
                "only a trigger key that another client gave an EARLIER expiry waits for its indexed time. "
                'Remedy: add notify-keyspace-events "%s" to what is set, in redis.conf or at the provider',
                self._where,
                reason,
                self._wanted,
                extra=log_fields("notifications_lost", reason=reason),
            )
            self._warned = reason

"""One subscribed connection: expired events of our trigger keys, and the wake-ups of those who schedule.

Keyspace channels (`__keyspace@0__:<key>`) instead of keyevent ones: the server then filters by our prefix,
and foreign keys that expire cost this worker nothing. redis-py 8 has `redis.keyspace_notifications`, but the
releases that Celery 5.5 and 5.6 allow have not; and its reconnecting by itself would hide the gap from us.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import COMPACT_LENGTH, COMPACT_MEMBER, Channels, member_of, text
from celery_redis_expiry.worker.wire import Many, Wire

#: Seconds of silence after which the connection is asked for a sign of life, and how long it has for it.
#: A half-open connection is silent for ever.
PING_AFTER = 30.0
PONG_WITHIN = 5.0


class Message(NamedTuple):
    """What arrived: `subscribed` (now nothing is missed), `wake` (with its text), or an event of a member.

    `many` are expired events of as many members, of the only shard.
    """

    kind: str
    text: str = ""
    shard: int = 0
    members: Sequence[str] = ()


class Subscription:
    """Opens itself when first asked, and again after an error."""

    def __init__(self, primary: Primary, channels: Channels) -> None:
        self._client: Any = primary.client(retries=0)
        self._channels = channels
        self._patterns = set(channels.patterns)
        # of a shard that the pattern names; what is longer or shorter is read one by one
        self._many: Many | None = None
        if channels.only:
            self._many = Many(channels.events, channels.only, COMPACT_MEMBER, COMPACT_LENGTH, "expired")
        self._user = primary.location.user
        self._pubsub: Any = None
        self._wire: Wire | None = None
        self._confirmed: set[str] = set()
        self._heard = 0.0
        self._asked = 0.0
        self._doubted = False

    def doubt(self) -> None:
        """Ask for a sign of life soon; may be called by another thread."""
        self._doubted = True

    def messages(self, timeout: float) -> Iterator[Message]:
        """What arrives within `timeout` seconds: none, or one, and what came with it.

        Raises:
            StoreUnavailable: the connection is lost; the next call opens a new one.
        """
        try:
            if self._pubsub is None:
                self._open()
            for raw in self._arriving(timeout):
                self._heard, self._asked = time.monotonic(), 0.0
                message = self._read(raw)
                if message is not None:
                    yield message
            self._prove_alive()
        except redis_errors.NoPermissionError as exc:
            self.close()
            raise StoreUnavailable(
                f"the Redis user {self._user!r} may not subscribe ({exc}): give it +psubscribe +ping and the "
                f"channels &{self._channels.wake} and &{self._channels.events}. Until then timers are looked "
                "for every second"
            ) from exc
        except (redis_errors.RedisError, OSError, ValueError) as exc:
            self.close()
            raise StoreUnavailable(f"the subscription was lost: {exc}") from exc

    def close(self) -> None:
        pubsub, self._pubsub, self._wire = self._pubsub, None, None
        if pubsub is not None:
            pubsub.close()
        self._client.connection_pool.disconnect()

    def _open(self) -> None:
        self._pubsub = self._client.pubsub()
        self._confirmed = set()
        self._pubsub.psubscribe(*self._patterns)
        self._heard, self._asked = time.monotonic(), 0.0

    def _arriving(self, timeout: float) -> Iterator[list[Any]]:
        """By redis-py until the subscription stands and all that it read ahead is handed out."""
        if self._wire is not None:
            yield from self._wire.read(timeout)
            return
        raw = self._pubsub.get_message(timeout=timeout)
        while raw is not None:
            yield [raw["type"].encode(), raw["pattern"], raw["channel"], raw["data"]]
            raw = self._pubsub.get_message(timeout=0)
        if self._confirmed == self._patterns:
            self._wire = Wire(self._pubsub.connection, self._many)

    def _prove_alive(self) -> None:
        now = time.monotonic()
        if self._asked and now - self._asked > PONG_WITHIN:
            raise redis_errors.ConnectionError(f"no answer within {PONG_WITHIN:.0f} s")
        if not self._asked and (self._doubted or now - self._heard > PING_AFTER):
            self._doubted = False
            self._pubsub.ping()
            self._asked = now

    def _read(self, raw: list[Any]) -> Message | None:
        if raw[0] == b"psubscribe":
            self._confirmed.add(text(raw[2]))
            return Message("subscribed") if self._confirmed == self._patterns else None
        if raw[0] == b"many":
            return Message("many", members=b"\n".join(raw[1:]).decode().split("\n"))
        if raw[0] != b"pmessage":
            return None
        place = self._channels.read(text(raw[2]))
        if place is None:
            return None
        shard, member = place
        data = _told(raw[3])
        return Message("wake", data, shard) if member is None else Message(data, member, shard)


def _told(data: bytes) -> str:
    """What a message says: the name of an event, a time, or "!" and a member, as scripts have it."""
    return "!" + member_of(data[1:]) if data.startswith(b"!") else text(data)

"""Whether timers can be fired in place: only where that is exactly what publishing would do."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis

from celery_redis_expiry.connections import broker_location
from celery_redis_expiry.store import Store

#: Those of kombu's own, whose subclasses may do anything.
CHANNELS = (kombu_redis.Channel, kombu_redis.SentinelChannel)


def why_not(app: Any, store: Store, channel: Any, run_id: str) -> str:
    """Why they can't, in a few words; "" where they can.

    Arguments:
        channel: of kombu, to the broker.
        run_id: of the Redis server that it leads to.

    Raises:
        StoreUnavailable: the timers' Redis can't be asked.
    """
    broker = broker_location(app)
    if broker is None or not isinstance(channel, kombu_redis.Channel):
        return "the broker is no Redis"
    if type(channel) not in CHANNELS:
        return f"the broker's transport is not kombu's own ({type(channel).__qualname__})"
    if store.location.cluster:
        return "the timers are in a Cluster"
    client = channel.connection.client
    if len(client.alt) > 1 and not broker.sentinels:
        return "there are several broker URLs"
    if channel.client.connection_pool.connection_kwargs["db"] != store.location.database:
        return "the broker is another database"
    # by name, too: after a failover the name of the one may lead elsewhere, and the other's not
    if store.location.door() != broker.door() or run_id != store.run_id():
        return "the broker is another server, or has another address"
    return ""

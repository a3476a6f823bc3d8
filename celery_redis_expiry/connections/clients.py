"""Clients of redis-py for a location: one that finds its way, and one for each primary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import SlotNotCoveredError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from celery_redis_expiry.connections.location import Location
from celery_redis_expiry.connections.memory import memory_client
from celery_redis_expiry.connections.packing import pack_quickly

#: Seconds for one attempt. All attempts of one call must end well within `store.REMEMBER_MS`.
TIMEOUT = 5.0
RETRIES = 3


@dataclass(frozen=True)
class Primary:
    """A server that owns timers: the only one, or one of a Cluster's.

    Attributes:
        name: `host:port` in a Cluster; empty where there is but one, whoever that is at the moment.
    """

    location: Location
    name: str = ""

    def client(self, *, timeout: float = TIMEOUT, retries: int = RETRIES) -> redis.Redis:
        """A client for this server, of its own connection pool."""
        if not self.name:
            single = client(self.location, timeout=timeout, retries=retries)
            assert isinstance(single, redis.Redis)
            return single
        host, _, port = self.name.rpartition(":")
        return redis.Redis(**client_options(self.location, timeout, retries), host=host, port=int(port))


def client(
    location: Location, *, timeout: float = TIMEOUT, retries: int = RETRIES
) -> redis.Redis | RedisCluster:
    """A client of its own connection pool. One for a single server does not connect before its first command.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a command is repeated after a lost connection; 0 for the subscription,
            whose loss must not be hidden from us.

    Raises:
        redis.exceptions.RedisClusterException: no node of the Cluster can be reached.
        NotConfigured: it is in memory, and what that needs is not installed.
    """
    if location.memory is not None:
        in_memory: redis.Redis = memory_client(location.memory)
        return in_memory
    options = client_options(location, timeout, retries)
    if location.cluster:
        nodes: list[Any] = [ClusterNode(host, port) for host, port in location.cluster]  # type: ignore[no-untyped-call]
        # a part of the Cluster that is down must not keep us from the rest
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    if not location.sentinels:
        single = redis.Redis(db=location.database, **options)
        pack_quickly(single)
        return single
    sentinel: Any = Sentinel(list(location.sentinels), **sentinel_options(location, timeout))  # type: ignore[no-untyped-call]
    primary: redis.Redis = sentinel.master_for(
        location.sentinel_options["master_name"], redis_class=redis.Redis, db=location.database, **options
    )
    pack_quickly(primary)
    return primary


def primaries(location: Location, connected: Any, tags: Sequence[str]) -> dict[Primary, list[int]]:
    """The servers that own shards, as the client knows them now, each with the shards it owns.

    Arguments:
        connected: a client for the location.
        tags: a key of each shard, in order.
    """
    if not location.cluster:
        return {Primary(location): list(range(len(tags)))}
    owned: dict[Primary, list[int]] = {}
    for number, key in enumerate(tags):
        # nobody owns the slots of a primary that is down and has no replica
        with suppress(SlotNotCoveredError):
            node = connected.get_node_from_key(key)
            owned.setdefault(Primary(location, f"{node.host}:{node.port}"), []).append(number)
    return owned


def sentinel_options(location: Location, timeout: float) -> dict[str, Any]:
    """What a Sentinel of redis-py, or of redis.asyncio, is made with."""
    return {
        "min_other_sentinels": location.sentinel_options.get("min_other_sentinels", 0),
        "sentinel_kwargs": {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            **(location.sentinel_options.get("sentinel_kwargs") or {}),
        },
    }


def client_options(
    location: Location, timeout: float, retries: int, retry: Callable[..., Any] = Retry
) -> dict[str, Any]:
    """What a client of redis-py, or of redis.asyncio, is made with.

    Arguments:
        retry: its class for that.
    """
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": retry(ExponentialBackoff(cap=1.0, base=0.05) if retries else NoBackoff(), retries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError] if retries else [],
        "protocol": 2,
        # members that are no UTF-8 must go back as they came: see `keys.text`
        "encoding_errors": "surrogateescape",
        **location.options,
    }

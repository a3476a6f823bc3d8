"""Clients of redis.asyncio for a location: as those of `clients`, for an event loop."""

from __future__ import annotations

import inspect
from typing import Any

import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from celery_redis_expiry.connections.clients import client_options, sentinel_options
from celery_redis_expiry.connections.location import Location
from celery_redis_expiry.connections.memory import memory_client
from celery_redis_expiry.errors import NotConfigured


def async_client(location: Location, *, timeout: float, retries: int) -> Any:
    """A client of its own connection pool, which connects at its first command.

    Arguments:
        timeout: seconds for one attempt.
        retries: how often a command is repeated after a lost connection.

    Raises:
        NotConfigured: redis.asyncio does not know an option of the location.
    """
    if location.memory is not None:
        return memory_client(location.memory, awaited=True)
    options = client_options(location, timeout, retries, Retry)
    kind = RedisCluster if location.cluster else Redis
    unknown = sorted(options.keys() - inspect.signature(kind).parameters.keys())
    if unknown:
        raise NotConfigured(
            f"{location.url}: redis.asyncio {redis.__version__} does not take {', '.join(unknown)}"
            f"{' for a Cluster' if location.cluster else ''}: leave it out (for ssl_ca_path there is "
            "ssl_ca_certs), or call schedule_on_expiry and the like in a thread"
        )
    if location.cluster:
        nodes = [ClusterNode(host, port) for host, port in location.cluster]
        # a part of the Cluster that is down must not keep us from the rest
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    if not location.sentinels:
        return Redis(db=location.database, **options)
    sentinel: Any = Sentinel(list(location.sentinels), **sentinel_options(location, timeout))  # type: ignore[no-untyped-call]
    return sentinel.master_for(
        location.sentinel_options["master_name"], redis_class=Redis, db=location.database, **options
    )


def node_client(location: Location, host: str, port: int, *, timeout: float, retries: int) -> Any:
    """A client for one node of a Cluster."""
    return Redis(host=host, port=port, **client_options(location, timeout, retries, Retry))


async def ask_sentinels_anew(client: Any) -> None:
    """Part with connections that nobody uses, if sentinels say where a new one goes."""
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        await pool.disconnect(inuse_connections=False)


async def close(client: Any) -> None:
    """Close a client, and those for the sentinels if it has any."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()

"""What the checks look at: the app, its store, and the Redis servers that hold its timers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from celery_redis_expiry.connections import Location, Primary, client
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.keys import Channels, Keys
from celery_redis_expiry.scripts import refused_command
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Store, store_of


@dataclass
class Server:
    """A primary that holds timers.

    Attributes:
        name: its address.
        client: of its own connections; what is lost is not repeated.
        keys: of one of its shards.
    """

    name: str
    client: Any
    location: Location
    keys: Keys
    channels: Channels

    @cached_property
    def info(self) -> dict[str, Any]:
        """`INFO`, asked once for all checks."""
        answer: dict[str, Any] = self.client.info()
        return answer

    def config(self, name: str) -> str | None:
        """A setting of the server; None where `CONFIG` is refused, as on managed Redis."""
        try:
            value = self.client.config_get(name).get(name)
        except ResponseError:
            return None
        return None if value is None else str(value)


@dataclass
class Patient:
    """A Celery app under examination.

    Attributes:
        timeout: seconds to wait for an answer, of Redis or of the broker.
        late: seconds after which a due timer counts as overdue.
        roles: whose rights are looked at, see `rights.ROLES`.
        broker_answers: found out by the check of the broker; the workers are asked only then.
    """

    app: Any
    timeout: float
    late: float
    roles: tuple[str, ...]
    broker_answers: bool = False

    @cached_property
    def settings(self) -> Settings:
        return Settings.of(self.app)

    @cached_property
    def store(self) -> Store:
        return store_of(self.app)

    def reach(self) -> float:
        """Seconds of one round trip to Redis. Raises what redis-py raises; a refused PING is an answer."""
        connected: Any = client(self.store.location, timeout=self.timeout, retries=0)
        took = 0.0
        for _ in range(2):  # the first one connects
            start = time.perf_counter()
            try:
                connected.ping()
            except NoPermissionError as exc:
                if refused_command(str(exc)) != "PING":
                    raise
            took = time.perf_counter() - start
        return took

    @cached_property
    def servers(self) -> list[Server]:
        """Every primary that holds timers."""
        store = self.store
        try:
            shards = store.shards
        except ExpiryError:
            # the checks of the timers tell of it
            shards = store.cut(store.calls.default)
        channels = store.channels(shards)
        return [
            self._server(primary, shards[owned[0]].keys, channels)
            for primary, owned in store.primaries(shards).items()
        ]

    def _server(self, primary: Primary, keys: Keys, channels: Channels) -> Server:
        location = primary.location
        connected: Any = primary.client(timeout=self.timeout, retries=0)
        if primary.name:
            name = primary.name
        elif location.sentinels:
            host, port = connected.connection_pool.get_master_address()
            name = f"{host}:{port}"
        else:
            options = location.options
            name = options.get("unix_socket_path") or f"{options['host']}:{options['port']}"
        return Server(name, connected, location, keys, channels)

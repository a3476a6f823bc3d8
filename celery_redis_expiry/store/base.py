"""What the parts of a shard share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import Keys
from celery_redis_expiry.scripts import Scripts
from celery_redis_expiry.store.link import Link

#: How long the answer of a changing call is remembered, ms, for its repetition after a lost reply.
REMEMBER_MS = 60_000


class Recut(StoreUnavailable):
    """The namespace has another number of shards by now; nothing was done."""


class ShardBase:
    """One shard of a namespace: timers whose keys share a hash tag, and so lie on one server.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        link: the way to Redis.
        keys: of this shard.
        owner: the app's main name, recorded in the namespace.
        shards: how many there are.
    """

    def __init__(self, link: Link, keys: Keys, owner: str, shards: int) -> None:
        self.link = link
        self.location = link.location
        self.keys = keys
        self.number = keys.shard
        self.owner = owner
        self.shards = shards

    @property
    def _client(self) -> Any:
        return self.link.client

    @property
    def _scripts(self) -> Scripts:
        return self.link.scripts

    def _translated(self) -> AbstractContextManager[None]:
        return self.link.translated()

    def server(self) -> Any:
        """A client for the very server that has this shard now."""
        client = self._client
        if self.location.cluster:
            client = client.get_redis_connection(client.get_node_from_key(self.keys.namespace))
        return client

    def _now(self) -> int:
        """The clock of that server, ms."""
        seconds, micros = self.server().time()
        return int(seconds) * 1000 + int(micros) // 1000

    def recut(self, recorded: str) -> Recut:
        """What to raise where another number of shards is recorded."""
        return Recut(
            f"the namespace {self.keys.namespace_name!r} in {self.location.url} is cut into {recorded} "
            f"shards by now, this process reckons with {self.shards}: an expiry worker must be restarted"
        )

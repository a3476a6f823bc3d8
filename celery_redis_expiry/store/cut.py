"""A namespace, cut into shards, for who works on all of them: which there are, and which server has which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from celery_redis_expiry.blocking import run
from celery_redis_expiry.connections import Primary, primaries
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import Channels, shard_of
from celery_redis_expiry.store.calls import Calls
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.users import Users


class Cut:
    """The shards of a namespace, in one Redis or in one Cluster.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        link: the way to Redis.
        calls: what users' calls do over it, which know the number of shards.
    """

    def __init__(self, link: Link, calls: Calls) -> None:
        self.link = link
        self.calls = calls
        self.location = link.location
        self.namespace = calls.namespace
        self.owner = calls.owner
        self._made: tuple[list[Users], list[Shard]] = [], []

    # -- the shards

    @property
    def shards(self) -> list[Shard]:
        """All of them, in order. Their number is asked for once.

        Raises:
            NotConfigured: the namespace is cut into another number than `expiry_shards` says.
        """
        known = run(self.calls.shards())
        if self._made[0] is not known:
            self._made = known, [Shard(self.link, each) for each in known]
        return self._made[1]

    def cut(self, number: int) -> list[Shard]:
        """The shards that there would be, were there so many."""
        return [Shard(self.link, each) for each in self.calls.cut(number)]

    def reckon_with(self, other: Cut) -> None:
        """Take over the number of shards that another store of the namespace has learned."""
        self.calls.reckon_with(len(other.shards))

    def recorded(self) -> str:
        """The number of shards as recorded, or what is being done about it."""
        return run(self.calls.recorded())

    def home(self, label: str) -> Shard:
        """The shard of the timer with this label."""
        shards = self.shards
        return shards[shard_of(label, len(shards))]

    def channels(self, shards: Sequence[Shard] | None = None) -> Channels:
        """What a listener subscribes to."""
        number = len(shards or self.shards)
        return Channels(self.namespace, self.location.prefix, number, self.location.database)

    def permit(self, role: str) -> None:
        """See `Agreement.permit`."""
        run(self.calls.permit(role))

    def _record(self, role: str) -> None:
        run(self.calls.record(role))

    def _recut(self) -> AbstractContextManager[Callable[[], bool]]:
        return self.calls.recut(run(self.calls.shards()))

    # -- the servers

    def primaries(self, shards: Sequence[Shard] | None = None) -> dict[Primary, list[int]]:
        """The servers that own shards, as known now, each with the shards it owns."""
        with self.link.translated():
            tags = [shard.keys.namespace for shard in shards or self.shards]
            return primaries(self.location, self.link.client, tags)

    def run_id(self) -> str:
        """Which server holds the timers; "" for a Cluster."""
        if self.location.cluster:
            return ""
        with self.link.translated():
            return str(self.link.client.info("server")["run_id"])

    def beside(self, number: int) -> list[int]:
        """The shards on the same server as this one, itself among them, as far as that is known."""
        try:
            owned = self.primaries().values()
        except StoreUnavailable:
            return [number]
        return next((shards for shards in owned if number in shards), [number])

    def refresh(self) -> None:
        """Ask a Cluster who owns what now."""
        with self.link.translated():
            run(self.link.refresh())

"""A namespace, cut into shards: how many there are, who may change them, and which server has which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from redis.exceptions import RedisClusterException, RedisError

from celery_redis_expiry.connections import Primary, primaries
from celery_redis_expiry.errors import NotConfigured, StoreUnavailable
from celery_redis_expiry.keys import Channels, Keys, shard_of
from celery_redis_expiry.store.base import Recut
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.rights import missing, vital_to
from celery_redis_expiry.store.shard import Shard

#: Into how many shards a namespace is cut where nobody says: many small ones in a Cluster, since migrating a
#: large key holds its server up.
SHARDS, CLUSTER_SHARDS = 1, 64
#: What stands in place of the number while `celery expiry reshard` moves timers.
RESHARDING = "resharding"


class Cut:
    """The shards of a namespace, in one Redis or in one Cluster.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        link: the way to Redis.
        namespace: see `expiry_namespace`.
        owner: the app's main name, recorded in the namespace.
        shards: into how many the namespace must be cut; None for what is recorded.
    """

    def __init__(self, link: Link, namespace: str, owner: str, shards: int | None = None) -> None:
        self.link = link
        self.location = link.location
        self.namespace = namespace
        self.owner = owner
        self._wanted = shards
        self._shards: list[Shard] = []
        self._recorded: list[Shard] | None = None
        self._permitted: set[str] = set()
        self._agreeing = threading.Lock()

    # -- the shards

    @property
    def shards(self) -> list[Shard]:
        """All of them, in order. Their number is asked for once.

        Raises:
            NotConfigured: the namespace is cut into another number than `expiry_shards` says.
        """
        shards = self._shards
        if not shards:
            with self._agreeing:
                shards = self._shards = self._shards or self.cut(self._agreed(record=False))
        return shards

    def _record(self, role: str) -> None:
        """Record their number before anything is stored: another process may reckon with another."""
        self.permit(role)
        if self._recorded is not self.shards:
            number = self._agreed(record=True)
            if number != len(self.shards):
                self._shards = self.cut(number)
            self._recorded = self.shards

    def cut(self, number: int) -> list[Shard]:
        """The shards that there would be, were there so many."""
        return [self._shard(each, number) for each in range(number)]

    def reckon_with(self, other: Cut) -> None:
        """Take over the number of shards that another store of the namespace has learned."""
        self._shards = self.cut(len(other.shards))

    def recorded(self) -> str:
        """The number of shards as recorded, or what is being done about it."""
        return self._shard(0, 0).recorded() or str(self.default)

    def _shard(self, number: int, of: int) -> Shard:
        return Shard(self.link, Keys(self.namespace, self.location.prefix, number), self.owner, of)

    def _agreed(self, *, record: bool) -> int:
        """The number of shards as recorded in the first."""
        first, expected = self._shard(0, 0), self._wanted or self.default
        recorded = first.agree(expected) if record else first.recorded()
        if not recorded:
            return expected
        if recorded.startswith(RESHARDING):
            raise StoreUnavailable(
                f"the timers of the namespace {self.namespace!r} are being moved to other shards: wait, or, "
                "if `celery expiry reshard` was interrupted, run it again"
            )
        if not recorded.isdigit() or (self._wanted and int(recorded) != self._wanted):
            raise NotConfigured(
                f"expiry_shards is {expected}, but the namespace {self.namespace!r} is cut "
                f"into {recorded}: leave the setting out, or stop the expiry workers and type "
                f"celery -A … expiry reshard {expected}"
            )
        return int(recorded)

    @property
    def default(self) -> int:
        """How many shards there are where nobody says."""
        return CLUSTER_SHARDS if self.location.cluster else SHARDS

    def home(self, label: str) -> Shard:
        """The shard of the timer with this label."""
        return self.shards[shard_of(label, len(self.shards))]

    def channels(self, shards: Sequence[Shard] | None = None) -> Channels:
        """What a listener subscribes to."""
        number = len(shards or self.shards)
        return Channels(self.namespace, self.location.prefix, number, self.location.database)

    # -- the servers

    def permit(self, role: str) -> None:
        """See once, before the first change, that the user of an ACL has every right of a role.

        A script that is refused in the middle leaves half a change. On a Cluster one server is asked for all:
        each has an ACL of its own, and they should be alike.

        Arguments:
            role: see `rights.ROLES`.

        Raises:
            StoreUnavailable: it lacks some; nothing was changed.
        """
        if role in self._permitted or not self.location.limited:
            return
        channels = self.channels(self._shards or self.cut(self._wanted or self.default))
        first = self._shard(0, 0)
        with self.link.translated():
            try:
                lacking = missing(first.server(), first.keys, channels, vital_to(role))
            except (RedisError, RedisClusterException):
                if self.location.cluster:
                    self.refresh()  # the shard may be another server's by now
                raise
        if lacking:
            raise StoreUnavailable(
                f"{self.location.url}: the Redis user {self.location.user!r} lacks, as {role}: "
                f'{" ".join(lacking)} (nothing was changed): see docs/settings.md, "Users of an ACL"'
            )
        self._permitted.add(role)

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
            self.link.client.nodes_manager.initialize()

    @contextmanager
    def _recut(self) -> Iterator[Callable[[], bool]]:
        """Learn the number of shards anew where it turns out to have changed; yields whether it has not."""
        shards = self.shards
        try:
            yield lambda: self._shards is shards
        except Recut:
            self._shards = []

    def _restless(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the shards of the namespace {self.namespace!r} don't agree on their number: "
            "run celery expiry reshard"
        )

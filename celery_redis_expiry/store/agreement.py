"""Into how many shards a namespace is cut, as all who use it have agreed, and who may change them.

See `blocking` for why these are coroutines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import RedisClusterException, RedisError

from celery_redis_expiry.errors import NotConfigured, StoreUnavailable
from celery_redis_expiry.keys import Channels, Keys, shard_of
from celery_redis_expiry.store.base import Recut
from celery_redis_expiry.store.link import AnyLink
from celery_redis_expiry.store.rights import refused, trials, vital_to
from celery_redis_expiry.store.users import Users

#: Into how many shards a namespace is cut where nobody says: many small ones in a Cluster, since migrating a
#: large key holds its server up.
SHARDS, CLUSTER_SHARDS = 1, 64
#: What stands in place of the number while `celery expiry reshard` moves timers.
RESHARDING = "resharding"


class Agreement:
    """The shards of a namespace, in one Redis or in one Cluster, as users' calls see them.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        link: the way to Redis.
        namespace: see `expiry_namespace`.
        owner: the app's main name, recorded in the namespace.
        shards: into how many the namespace must be cut; None for what is recorded.
    """

    def __init__(self, link: AnyLink, namespace: str, owner: str, shards: int | None = None) -> None:
        self.link = link
        self.location = link.location
        self.namespace = namespace
        self.owner = owner
        self._wanted = shards
        self._shards: list[Users] = []
        self._recorded: list[Users] | None = None
        self._permitted: set[str] = set()
        self._agreeing = threading.Lock()

    async def shards(self) -> list[Users]:
        """All of them, in order. Their number is asked for once.

        Raises:
            NotConfigured: the namespace is cut into another number than `expiry_shards` says.
        """
        if not self._shards:
            number = await self._agreed(record=False)
            with self._agreeing:
                # one list for all, though several may have asked
                self._shards = self._shards or self.cut(number)
        return self._shards

    async def home(self, label: str) -> Users:
        """The shard of the timer with this label."""
        shards = await self.shards()
        return shards[shard_of(label, len(shards))]

    async def record(self, role: str) -> None:
        """Record their number before anything is stored: another process may reckon with another."""
        await self.permit(role)
        shards = await self.shards()
        if self._recorded is not shards:
            number = await self._agreed(record=True)
            if number != len(shards):
                self.reckon_with(number)
            self._recorded = await self.shards()

    def reckon_with(self, number: int) -> None:
        """Take over a number of shards that somebody has learned."""
        self._shards = self.cut(number)

    async def recorded(self) -> str:
        """The number of shards as recorded, or what is being done about it."""
        return await self._shard(0, 0).recorded() or str(self.default)

    @property
    def default(self) -> int:
        """How many shards there are where nobody says."""
        return CLUSTER_SHARDS if self.location.cluster else SHARDS

    def cut(self, number: int) -> list[Users]:
        """The shards that there would be, were there so many."""
        return [self._shard(each, number) for each in range(number)]

    def _shard(self, number: int, of: int) -> Users:
        return Users(self.link, Keys(self.namespace, self.location.prefix, number), self.owner, of)

    async def _agreed(self, *, record: bool) -> int:
        """The number of shards as recorded in the first."""
        first, expected = self._shard(0, 0), self._wanted or self.default
        recorded = await (first.agree(expected) if record else first.recorded())
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

    @contextmanager
    def recut(self, shards: list[Users]) -> Iterator[Callable[[], bool]]:
        """Learn the number of shards anew where it turns out to have changed; yields whether it has not.

        Arguments:
            shards: those that the call goes by.
        """
        changed = False
        try:
            yield lambda: not changed
        except Recut:
            changed = True
            # who comes late must not forget what another has learned meanwhile
            if self._shards is shards:
                self._shards = []

    def restless(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the shards of the namespace {self.namespace!r} don't agree on their number: "
            "run celery expiry reshard"
        )

    async def permit(self, role: str) -> None:
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
        number = len(self._shards) or self._wanted or self.default
        channels = Channels(self.namespace, self.location.prefix, number, self.location.database)
        first, needed = self._shard(0, 0).keys, vital_to(role)
        with self.link.translated():
            try:
                answers = await self.link.pipeline(
                    trials(first, needed), at=first.namespace, raise_on_error=False
                )
                lacking = refused(needed, answers, channels)
            except (RedisError, RedisClusterException):
                if self.location.cluster:
                    await self.link.refresh()  # the shard may be another server's by now
                raise
        if lacking:
            raise StoreUnavailable(
                f"{self.location.url}: the Redis user {self.location.user!r} lacks, as {role}: "
                f'{" ".join(lacking)} (nothing was changed): see docs/settings.md, "Users of an ACL"'
            )
        self._permitted.add(role)

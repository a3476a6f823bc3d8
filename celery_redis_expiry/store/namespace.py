"""What each shard records of its namespace: whose timers these are, and into how many shards they are cut."""

from __future__ import annotations

from celery_redis_expiry.errors import NamespaceTaken
from celery_redis_expiry.keys import text
from celery_redis_expiry.store.base import AnyShard, ShardBase
from celery_redis_expiry.timer import FORMAT


class Recorded(AnyShard):
    """How many shards there are, as one of them has it recorded."""

    async def agree(self, number: int) -> str:
        """Record how many shards there are, unless that is recorded already; returns what is."""
        with self._translated():
            [recorded] = await self.link.call("enter", keys=[self.keys.namespace], args=[0, "shards", number])
        return text(recorded)

    async def recorded(self) -> str:
        """How many shards are recorded; "" if none are."""
        with self._translated():
            owner, shards = await self.link.execute("HMGET", self.keys.namespace, "app", "shards")
        # the release before shards recorded no number: it had one
        return text(shards) if shards else "1" if owner else ""

    async def check_cut(self) -> None:
        """What was not found here may have been moved: raises Recut where the number of shards is another."""
        recorded = await self.recorded()
        if recorded and recorded != str(self.shards):
            raise self.recut(recorded)


class Namespace(ShardBase):
    def enter(self, broker: str, *, adopt: bool = False) -> None:
        """Record whose namespace this is.

        Arguments:
            broker: which broker its messages go to, without credentials.
            adopt: take it over, whoever has it.

        Raises:
            NamespaceTaken: it is another app's or another broker's.
        """
        with self._translated():
            answer = self._scripts.enter(
                keys=[self.keys.namespace],
                args=[
                    int(adopt),
                    "format",
                    FORMAT,
                    "app",
                    self.owner,
                    "broker",
                    broker,
                    "shards",
                    self.shards,
                ],
            )
        version, app, recorded, cut = (text(value) for value in answer)
        if (app, recorded) != (self.owner, broker):
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} in {self.location.url} belongs to the app "
                f"{app!r} with the broker {recorded}; this is {self.owner!r} with {broker}. Give this app an "
                "expiry_namespace of its own; or, if the app or its broker was moved or renamed on purpose: "
                "celery -A … expiry adopt"
            )
        if not (version.isascii() and version.isdigit()):
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} in {self.location.url} has the format "
                f"{version!r}, which no release has written: celery -A … expiry adopt records it anew"
            )
        if cut and cut != str(self.shards):
            raise self.recut(cut)
        if int(version) > FORMAT:
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} has format {version}, this release "
                f"reads {FORMAT}: upgrade"
            )

    def ownership(self) -> tuple[str, str, str] | None:
        """Whose namespace this is, as (format, app, broker); None before its first expiry worker."""
        with self._translated():
            answer = self._client.hmget(self.keys.namespace, ["format", "app", "broker"])
        if None in answer:
            return None
        version, app, broker = (text(value) for value in answer)
        return version, app, broker

    def mark(self, shards: str) -> None:
        """Record the number of shards, or that timers are being moved."""
        with self._translated():
            self._client.hset(self.keys.namespace, "shards", shards)

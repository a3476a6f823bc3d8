"""What the parts of a shard share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from celery_redis_expiry.blocking import run
from celery_redis_expiry.content import Told, told
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import COMPACT, HANDLE, PLACE, Keys, label_of, member_of, place
from celery_redis_expiry.recurring import in_words
from celery_redis_expiry.scripts import Scripts
from celery_redis_expiry.store.link import AnyLink, Link
from celery_redis_expiry.store.templates import Templates
from celery_redis_expiry.timer import LATEST, Stored, Timer, Undecodable, as_datetime

#: How long the answer of a changing call is remembered, ms, for its repetition after a lost reply.
REMEMBER_MS = 60_000
#: The same for one that names itself (`Request.token`), for a repetition by another process.
KEEP_MS = 7 * 24 * 60 * 60_000


class Recut(StoreUnavailable):
    """The namespace has another number of shards by now; nothing was done."""


class AnyShard:
    """One shard of a namespace: timers whose keys share a hash tag, and so lie on one server.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        link: the way to Redis.
        keys: of this shard.
        owner: the app's main name, recorded in the namespace.
        shards: how many there are.
    """

    def __init__(self, link: AnyLink, keys: Keys, owner: str, shards: int) -> None:
        self.link = link
        self.location = link.location
        self.keys = keys
        self.number = keys.shard
        self.owner = owner
        self.shards = shards
        self.templates = Templates(link, keys)

    def _translated(self) -> AbstractContextManager[None]:
        return self.link.translated()

    async def clock(self) -> int:
        """The clock of the server that has this shard now, ms."""
        with self._translated():
            [(seconds, micros)] = await self.link.pipeline([("TIME",)], at=self.keys.namespace)
        return int(seconds) * 1000 + int(micros) // 1000

    def _timer(
        self, member: str, state: str, due: int, ttl: int, now: int, stored: Stored | Undecodable
    ) -> Timer:
        """A timer as users see it.

        Arguments:
            due: as the index has it, ms since the epoch.
            ttl: of its trigger key, ms; -1 where it has none, -2 where there is no such key.
            now: on Redis's clock, ms.
        """
        # the TTL rules over the index: some client may have moved it. Before Redis 7 a script's TIME and PTTL
        # are a millisecond apart now and then
        if ttl >= 0 and abs(now + ttl - due) > 2:
            due = now + ttl
        label, what = label_of(member), Told()
        if isinstance(stored, Undecodable):
            stored = Stored(label, {})
        else:
            what = told(stored.content)
        id, guard = stored.id, stored.guard or Guard()
        timeless = state == "parked" or (what.watch is not None and due == LATEST)
        return Timer(
            id=id,
            name=label if label != id else None,
            task=what.task,
            due=None if timeless else as_datetime(due),
            remaining=None if timeless else max(0, due - now) / 1000,
            trigger_key=self.keys.trigger(member),
            state=state,
            args=what.args,
            kwargs=what.kwargs,
            queue=what.queue,
            priority=what.priority,
            unless_exists=guard.unless_exists,
            only_if_exists=guard.only_if_exists,
            since=None if stored.since is None else as_datetime(stored.since),
            watch=what.watch if timeless else None,
            retries=what.retries,
            **recurrence(stored),
        )

    def recut(self, recorded: str) -> Recut:
        """What to raise where another number of shards is recorded."""
        return Recut(
            f"the namespace {self.keys.namespace_name!r} in {self.location.url} is cut into {recorded} "
            f"shards by now, this process reckons with {self.shards}: an expiry worker must be restarted"
        )


def recurrence(stored: Stored) -> dict[str, Any]:
    """What users see of a recurring timer beyond what every timer has."""
    if stored.recurring is None:
        return {}
    plan, state = stored.recurring.plan, stored.recurring.state
    return {
        "every": in_words(plan.schedule),
        "last": None if state.last is None else as_datetime(state.last),
        "last_id": state.last_id,
        "fired": state.fired,
        "missed": state.missed,
        "skipped": state.skipped,
    }


class ShardBase(AnyShard):
    """The same over a link that blocks: what workers and operators do."""

    link: Link

    @property
    def _client(self) -> Any:
        return self.link.client

    @property
    def _scripts(self) -> Scripts:
        return self.link.scripts

    def server(self) -> Any:
        """A client for the very server that has this shard now."""
        return self.link.server(self.keys.namespace)

    def now(self) -> int:
        """The clock of that server, ms."""
        return run(self.clock())

    def _members(self, places: Sequence[bytes]) -> list[str]:
        """The members at these places of a sorted set or hash; of one that has gone meanwhile, the place."""
        compact = [each for each in places if each.startswith(COMPACT)]
        records = self._client.hmget(self.keys.timers, compact) if compact else []
        handles = {
            each: each + (record or b"")[1 : 1 + HANDLE - PLACE]
            for each, record in zip(compact, records, strict=True)
        }
        return [member_of(handles.get(each, each)) for each in places]

    def stored_of(self, members: Sequence[str]) -> list[Stored | Undecodable]:
        """What is stored of these timers."""
        with self._translated():
            records = (
                self._client.hmget(self.keys.timers, [place(each) for each in members]) if members else []
            )
            return self._decoded((each, raw or b"") for each, raw in zip(members, records, strict=True))

    def _decoded(self, rows: Iterable[tuple[str, bytes]]) -> list[Stored | Undecodable]:
        """See `Templates.decoded`."""
        return run(self.templates.decoded(rows))

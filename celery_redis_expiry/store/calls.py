"""What users' calls do to the timers of a namespace, whichever shards they concern. See `blocking`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from celery_redis_expiry.errors import NotConfigured, NotReplicated, StoreUnavailable
from celery_redis_expiry.keys import found_at, label_of, member_of, new_token, place_of, shard_of
from celery_redis_expiry.settings import NAMESPACE, Settings
from celery_redis_expiry.store.agreement import Agreement
from celery_redis_expiry.store.link import AnyLink
from celery_redis_expiry.store.users import CONTENTION, Users
from celery_redis_expiry.timer import Outcome, Request, Timer

#: What an outcome says of a timer that waits now.
STORED = ("scheduled", "extended", "kept")


class Calls(Agreement):
    """Scheduling, looking up, moving and cancelling.

    Arguments:
        replicas: how many replicas must have what was scheduled before the call returns.
        replicas_timeout: seconds for which they are waited for.
        The others: see `Agreement`.
    """

    def __init__(
        self,
        link: AnyLink,
        namespace: str,
        owner: str,
        *,
        shards: int | None = None,
        replicas: int = 0,
        replicas_timeout: float = 1.0,
    ) -> None:
        super().__init__(link, namespace, owner, shards)
        self._replicas = replicas
        self._replicas_timeout = replicas_timeout

    @classmethod
    def of(cls, app: Any, link: AnyLink) -> Calls:
        """Those of a Celery app.

        Raises:
            NotConfigured: a setting is unusable.
        """
        settings = Settings.of(app)
        owner = app.main or "celery"
        namespace = settings.namespace or owner
        if not NAMESPACE.fullmatch(namespace):
            raise NotConfigured(
                f"the app's main name {owner!r} can't serve as a namespace: set expiry_namespace to letters, "
                "digits or _ . @ / -"
            )
        return cls(
            link,
            namespace,
            owner,
            shards=settings.shards,
            replicas=settings.wait_replicas,
            replicas_timeout=settings.wait_replicas_timeout,
        )

    async def schedule(
        self,
        requests: Sequence[Request],
        on_stored: Callable[[list[int], list[Outcome]], Any] | None = None,
    ) -> list[Outcome]:
        """Store timers, each according to its mode; the labels in one call must differ.

        Arguments:
            on_stored: is called, and not awaited, shard by shard with which positions and their outcomes: for
                who must know them where an error cuts the call short.

        Returns:
            An outcome for each, in order.

        Raises:
            NamespaceTaken: the namespace is another app's; nothing was stored.
            StoreFull: Redis is at its maxmemory; nothing was stored.
            NotReplicated: stored, but not on as many replicas as `expiry_wait_replicas` asks for.
            The last three may come after a part was stored where the labels lie in different shards.
        """
        stored: dict[int, Outcome] = {}
        await self.record("producer")
        for _ in range(CONTENTION + len(requests)):
            todo = [i for i in range(len(requests)) if i not in stored]
            if not todo:
                return [stored[i] for i in range(len(requests))]
            # once a round: another thread may learn of another number meanwhile
            shards = await self.shards()
            shard, group = shards[0], todo
            if len(shards) > 1:
                homes = {i: shard_of(requests[i].label, len(shards)) for i in todo}
                shard = shards[homes[todo[0]]]
                group = [i for i in todo if homes[i] == shard.number]
            with self.recut(shards) as current:
                outcomes = await shard.schedule([requests[i] for i in group])
            if current():
                stored.update(zip(group, outcomes, strict=True))
                if on_stored is not None:
                    on_stored(group, outcomes)
                waiting = [outcome for outcome in outcomes if outcome.status in STORED]
                if self._replicas and waiting:
                    await self._wait_for_replicas(shard, waiting)
        raise self.restless()

    async def forget_answer(self, requests: Sequence[Request]) -> None:
        """Nobody will repeat the call any more that stored these, all of one shard, and had a token."""
        home = await self.home(requests[0].label)
        await home.forget_answer(requests)

    async def tell_of_key_timer(self, outcome: Outcome) -> None:
        """Tell who watches keys of a timer that waits for one; without that it is found within a minute."""
        with suppress(StoreUnavailable):
            home = await self.home(label_of(outcome.member))
            await home.tell_of_key_timer(outcome.member)

    async def clock(self, label: str) -> int:
        """The clock of the server that has the timer with this label, ms."""
        home = await self.home(label)
        return await home.clock()

    async def finish(self, label: str, id: str) -> bool:
        """The task of an occurrence has ended. See `Users.finish`."""
        home = await self.home(label)
        return await home.finish(label, id)

    async def get(self, target: str, *, by_name: bool = True) -> Timer | None:
        """The timer of this name or task id, or None once its message is in the broker."""
        shard, found = await self._find(target, by_name)
        return await shard.inspect(found) if found is not None else None

    async def reschedule(self, target: str, when: str, *, by_name: bool = True) -> Outcome | None:
        """Give a timer another due time; None if there is no such timer.

        Arguments:
            when: see `Request`.
        """
        return await self._move(target, when, "move", by_name)

    async def fire(self, target: str) -> Outcome | None:
        """Make a timer due now; None if none waits: what is being published must not be sent twice."""
        return await self._move(target, "+0", "fire", by_name=True)

    async def _move(self, target: str, when: str, mode: str, by_name: bool) -> Outcome | None:
        timer = await self.get(target, by_name=by_name)
        if timer is None:
            return None
        [outcome] = await self.schedule([Request(None, when, mode, timer.name, timer.id)])
        outcome.raise_for_status()
        return None if outcome.status in ("missing", "claimed") else outcome

    async def cancel(self, target: str, *, by_name: bool = True, only: str | None = None) -> str | None:
        """Forget a waiting timer: its task id if it was waiting and will not fire, else None.

        Arguments:
            only: its member, where no other that has the name by now is meant.
        """
        await self.permit("producer")
        token = new_token()
        for _ in range(CONTENTION):
            shard, found = await self._find(target, by_name)
            if found is None or only not in (None, found):
                return None
            shards = await self.shards()
            with self.recut(shards) as current:
                [(answer, id)] = await shard.cancel([found], token)
            if not current():
                continue
            if answer == "cancelled":
                return id
            # gone: it was replaced between the two steps, or fired
            if answer == "claimed" or (await self._find(target, by_name))[1] == found:
                return None
        raise StoreUnavailable(f"{target!r} was replaced by others {CONTENTION} times meanwhile")

    async def _find(self, target: str, by_name: bool) -> tuple[Users, str | None]:
        """Where the timer of this name or task id lies, and its member.

        A timer lies where its label says: its name, else its task id. Who knows only the id of a named timer
        finds it by asking all shards, in one round trip to each server.
        """
        for _ in range(CONTENTION):
            shards = await self.shards()
            home = shards[shard_of(target, len(shards))]
            with self.recut(shards) as current:
                found = await home.find(target, by_name=by_name)
                if found is None and len(shards) > 1:
                    [elsewhere] = await self._find_ids(shards, [target])
                    if elsewhere is not None:
                        return elsewhere
                if found is None:
                    await home.check_cut()
            if current():
                return home, found
        raise self.restless()

    async def _find_ids(self, shards: Sequence[Users], ids: Sequence[str]) -> list[tuple[Users, str] | None]:
        """Where the timers of these task ids lie, and their members: one round trip to each server."""
        # a compact one lies where its task id says
        own = [
            (i, shards[shard_of(id, len(shards))], place)
            for i, id in enumerate(ids)
            if (place := place_of(id))
        ]
        commands: list[tuple[Any, ...]] = [("HMGET", shard.keys.ids, *ids) for shard in shards]
        for _, home, place in own:
            commands += [("HGET", home.keys.timers, place), ("ZSCORE", home.keys.dead, place)]
        with self.link.translated():
            answers = await self.link.pipeline(commands)
        found: list[tuple[Users, str] | None] = [None] * len(ids)
        told = answers[len(shards) :]
        for (i, home, _), record, buried in zip(own, told[::2], told[1::2], strict=True):
            handle = found_at(ids[i], record) if buried is None else None
            if handle:
                found[i] = home, member_of(handle)
        for shard, members in zip(shards, answers, strict=False):
            for i, member in enumerate(members):
                if member:
                    found[i] = shard, member_of(member)
        return found

    async def waiting_of(self, ids: Sequence[str]) -> list[str]:
        """Those of these task ids that timers have; any number of them in one round trip to each server."""
        if not ids:
            return []
        places = await self._find_ids(await self.shards(), ids)
        return [id for id, found in zip(ids, places, strict=True) if found]

    # -- replicas

    async def _wait_for_replicas(self, shard: Users, outcomes: list[Outcome]) -> None:
        try:
            confirmed, problem = await shard.wait_for_replicas(self._replicas, self._replicas_timeout), ""
        except StoreUnavailable as exc:
            confirmed, problem = 0, f" ({exc})"
        if confirmed < self._replicas:
            stored = "the timer IS" if len(outcomes) == 1 else f"{len(outcomes)} timers ARE"
            raise NotReplicated(
                f"{confirmed} of {self._replicas} replicas confirmed within {self._replicas_timeout:g} s"
                f"{problem}: {stored} stored, on the primary alone, and will fire unless that is lost before "
                "it has replicated. Scheduling once more makes a second timer, unless by the same key=",
                [outcome.id for outcome in outcomes],
            )

"""The timers of one namespace: which shard a call concerns."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from celery_redis_expiry.errors import NotReplicated, StoreUnavailable
from celery_redis_expiry.keys import label_of, new_token, shard_of, text
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store.cut import Cut
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.listing import Place
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.users import CONTENTION
from celery_redis_expiry.timer import LATEST, Claimed, DeadLetter, Lain, Outcome, Request, Timer

#: What an outcome says of a timer that waits now.
STORED = ("scheduled", "extended", "kept")
#: How many timers are read in one round trip where many are listed.
PAGE = 100


class Store(Cut):
    """All timers of a namespace.

    Arguments:
        replicas: how many replicas must have what was scheduled before the call returns.
        replicas_timeout: seconds for which they are waited for.
        The others: see `Cut`.
    """

    def __init__(
        self,
        link: Link,
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

    # -- what users' calls do

    def schedule(self, requests: Sequence[Request]) -> list[Outcome]:
        """Store timers, each according to its mode; the labels in one call must differ.

        Returns:
            An outcome for each, in order.

        Raises:
            NamespaceTaken: the namespace is another app's; nothing was stored.
            StoreFull: Redis is at its maxmemory; nothing was stored.
            NotReplicated: stored, but not on as many replicas as `expiry_wait_replicas` asks for.
            The last three may come after a part was stored where the labels lie in different shards.
        """
        outcomes: list[Outcome | None] = [None] * len(requests)
        for positions, stored in self.schedule_each(requests):
            for position, outcome in zip(positions, stored, strict=True):
                outcomes[position] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def schedule_each(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], list[Outcome]]]:
        """The same shard by shard: which positions, and their outcomes."""
        todo = list(range(len(requests)))
        self._record("producer")
        for _ in range(CONTENTION + len(requests)):
            if not todo:
                return
            # once a round: another thread may learn of another number meanwhile
            shards = self.shards
            homes = {i: shard_of(requests[i].label, len(shards)) for i in todo}
            shard = shards[homes[todo[0]]]
            group = [i for i in todo if homes[i] == shard.number]
            with self._recut() as current:
                outcomes = shard.schedule([requests[i] for i in group])
            if current():
                yield group, outcomes
                stored = [outcome for outcome in outcomes if outcome.status in STORED]
                if self._replicas and stored:
                    self._wait_for_replicas(shard, stored)
                todo = [i for i in todo if i not in set(group)]
        raise self._restless()

    def get(self, target: str, *, by_name: bool = True) -> Timer | None:
        """The timer of this name or task id, or None once its message is in the broker."""
        shard, found = self._find(target, by_name)
        return shard.inspect(found) if found is not None else None

    def reschedule(self, target: str, when: str, *, by_name: bool = True) -> Outcome | None:
        """Give a timer another due time; None if there is no such timer.

        Arguments:
            when: see `Request`.
        """
        timer = self.get(target, by_name=by_name)
        if timer is None:
            return None
        [outcome] = self.schedule([Request(None, when, "move", timer.name, timer.id)])
        outcome.raise_for_status()
        return None if outcome.status == "missing" else outcome

    def cancel(self, target: str, *, by_name: bool = True) -> str | None:
        """Forget a waiting timer: its task id if it was waiting and will not fire, else None."""
        self.permit("producer")
        token = new_token()
        for _ in range(CONTENTION):
            shard, found = self._find(target, by_name)
            if found is None:
                return None
            with self._recut() as current:
                [(answer, id)] = shard.cancel([found], token)
            if not current():
                continue
            if answer == "cancelled":
                return id
            # gone: it was replaced between the two steps, or fired
            if answer == "claimed" or self._find(target, by_name)[1] == found:
                return None
        raise StoreUnavailable(f"{target!r} was replaced by others {CONTENTION} times meanwhile")

    def _find(self, target: str, by_name: bool) -> tuple[Shard, str | None]:
        """Where the timer of this name or task id lies, and its member.

        A timer lies where its label says: its name, else its task id. Who knows only the id of a named timer
        finds it by asking all shards, in one round trip to each server.
        """
        for _ in range(CONTENTION):
            home = self.home(target)
            with self._recut() as current:
                found = home.find(target, by_name=by_name)
                if found is None and len(self.shards) > 1:
                    elsewhere = self._find_ids([target])[0]
                    if elsewhere is not None:
                        return elsewhere
                if found is None:
                    home.check_cut()
            if current():
                return home, found
        raise self._restless()

    def _find_ids(self, ids: Sequence[str]) -> list[tuple[Shard, str] | None]:
        """Where the timers of these task ids lie, and their members: one round trip to each server."""
        with self.link.translated():
            pipe = self.link.client.pipeline(transaction=False)
            for shard in self.shards:
                pipe.hmget(shard.keys.ids, ids)
            answers = pipe.execute()
        places: list[tuple[Shard, str] | None] = [None] * len(ids)
        for shard, members in zip(self.shards, answers, strict=True):
            for i, member in enumerate(members):
                if member:
                    places[i] = shard, text(member)
        return places

    def waiting_of(self, ids: Sequence[str]) -> list[str]:
        """Those of these task ids that timers have; any number of them in one round trip to each server."""
        return [id for id, found in zip(ids, self._find_ids(ids), strict=True) if found] if ids else []

    # -- replicas

    def _wait_for_replicas(self, shard: Shard, outcomes: list[Outcome]) -> None:
        try:
            confirmed, problem = shard.wait_for_replicas(self._replicas, self._replicas_timeout), ""
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

    # -- what an expiry worker does to what it has claimed: always of one shard

    def ack(self, token: str, claims: Sequence[Claimed]) -> int:
        """See `Workers.ack`."""
        return self.shards[claims[0].shard].ack(token, claims) if claims else 0

    def release(self, token: str, claims: Sequence[Claimed], **how: Any) -> int:
        """See `Workers.release`."""
        return self.shards[claims[0].shard].release(token, claims, **how) if claims else 0

    def prolong(self, token: str, claims: Sequence[Claimed], lease: float) -> set[str]:
        """See `Workers.prolong`."""
        return self.shards[claims[0].shard].prolong(token, claims, lease)

    def bury(self, claim: Claimed, reason: str, origin: str) -> bool:
        """See `Workers.bury`."""
        return self.shards[claim.shard].bury(claim, reason, origin)

    def enter(self, broker: str, *, adopt: bool = False) -> None:
        """Record whose namespace this is, in each shard. See `Namespace.enter`."""
        self._record("operator" if adopt else "worker")
        with self._recut() as current:
            for shard in self.shards:
                shard.enter(broker, adopt=adopt)
        if not current():
            raise self._restless()

    # -- what operators ask

    def counts(self) -> dict[str, int]:
        """How many timers are waiting, parked and claimed, and how many dead letters there are."""
        shards = self.shards
        with self.link.translated():
            pipe = self.link.client.pipeline(transaction=False)
            for shard in shards:
                for key in (shard.keys.due, shard.keys.parked, shard.keys.claimed, shard.keys.dead):
                    pipe.zcard(key)
            sizes = pipe.execute()
        names = ("waiting", "parked", "claimed", "dead")
        return {name: sum(sizes[i :: len(names)]) for i, name in enumerate(names)}

    def timers(
        self, state: str = "waiting", *, low: int = 0, high: int = LATEST, page: int = PAGE
    ) -> Iterator[Timer]:
        """The timers in a state as they lie in the index, read page by page while they are taken.

        Arguments:
            state: `waiting`, soonest first; `parked`; or `claimed`. One whose TTL was taken away, or given,
                since the index was told is listed where the index has it, with its true state.
            low, high: of those that wait, due times in ms since the epoch, both included.
            page: how many are read in one round trip, of each shard.
        """
        return (timer for _, timer in self.listed(state, Selection(low=low, high=high), page=page))

    def listed(
        self, state: str, selection: Selection, *, after: Place | None = None, page: int = PAGE
    ) -> Iterator[tuple[Place, Timer]]:
        """The same, with their places, from a place on. See `Listing.listed`."""
        each = [shard.listed(state, selection, after, page) for shard in self.shards]
        return heapq.merge(*each, key=_place)

    def now(self) -> int:
        """Redis's clock, ms: of a Cluster that of the first shard's server."""
        return self.shards[0].now()

    def put(self, items: Sequence[Lain], *, replace: bool = False) -> list[str]:
        """Put here what lay in another Redis.

        Arguments:
            replace: cancel what waits under the name or task id of one of them.

        Returns:
            For each `put`; `replaced`; `here`, where it is already; or `kept`, where another timer waits
            under its name or task id.

        Raises:
            StoreFull: Redis is at its maxmemory; a part may have been stored.
        """
        self._record("operator")
        answers = [""] * len(items)
        with self._recut() as current:
            shards = self.shards
            groups: dict[int, list[int]] = {}
            for i, each in enumerate(items):
                groups.setdefault(shard_of(label_of(each.member), len(shards)), []).append(i)
            for number, group in groups.items():
                stored = shards[number].put([items[i] for i in group])
                for i, answer in zip(group, stored, strict=True):
                    answers[i] = self._settled(shards[number], items[i], answer, replace)
        if not current():
            raise self._restless()
        return answers

    def _settled(self, shard: Shard, item: Lain, answer: tuple[str, str], replace: bool) -> str:
        status, member = answer
        if status != "taken":
            return status
        if replace and shard.cancel([member], new_token())[0][0] != "claimed":
            [(status, _)] = shard.put([item])
        return {"taken": "kept", "put": "replaced"}.get(status, status)

    def recover(self) -> int:
        """Release what dead workers had claimed, as an expiry worker does by itself; returns how many."""
        self.permit("operator")
        recovered = 0
        for shard in self.shards:
            while count := shard.recover(PAGE):
                recovered += count
        return recovered

    def ownership(self) -> tuple[str, str, str] | None:
        """Whose namespace this is. See `Namespace.ownership`."""
        return self.shards[0].ownership()

    def announced(self) -> dict[str, float]:
        """The expiry workers, and in how many seconds each wakes, of its shards the first."""
        return soonest(shard.announced() for shard in self.shards)

    def overdue(self, seconds: float) -> tuple[int, float]:
        """How many timers were due more than `seconds` ago, and how long ago the oldest of them was."""
        return self._beyond([shard.keys.due for shard in self.shards], seconds)

    def abandoned(self, seconds: float) -> tuple[int, float]:
        """How many claims outlive their lease by more than `seconds`, and by how much the oldest."""
        return self._beyond([shard.keys.claimed for shard in self.shards], seconds)

    def _beyond(self, indices: list[str], seconds: float) -> tuple[int, float]:
        """How many members of these sorted sets, one a shard, are further back, and how far the oldest is."""
        with self.link.translated():
            times: dict[int, int] = {}
            for owned in self.primaries().values():
                # each server has a clock of its own
                times |= dict.fromkeys(owned, self.shards[owned[0]].now())
            pipe = self.link.client.pipeline(transaction=False)
            for number, now in times.items():
                limit = now - seconds * 1000
                pipe.zcount(indices[number], "-inf", limit)
                pipe.zrangebyscore(indices[number], "-inf", limit, start=0, num=1, withscores=True)
            answers = pipe.execute()
        heads = zip(times.values(), answers[1::2], strict=True)
        ages = [(now - head[0][1]) / 1000 for now, head in heads if head]
        return sum(answers[::2]), max(ages, default=0.0)

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """The dead letters, newest first."""
        letters = [letter for shard in self.shards for letter in shard.dead_letters(limit + offset)]
        letters.sort(key=lambda letter: letter.buried, reverse=True)
        return letters[offset : offset + limit]

    def retry(self, letter: DeadLetter) -> bool:
        """Make a dead letter a timer again, due at once; False if there is none."""
        self.permit("operator")
        return self.shards[letter.shard].retry(letter)

    def discard(self, letter: DeadLetter) -> bool:
        """Forget a dead letter for good; False if there is none."""
        self.permit("operator")
        return self.shards[letter.shard].discard(letter)


def soonest(announced: Iterable[dict[str, float]]) -> dict[str, float]:
    """Of what workers announced in several shards, when each wakes first."""
    workers: dict[str, float] = {}
    for each in announced:
        for worker, wakes in each.items():
            workers[worker] = min(wakes, workers.get(worker, wakes))
    return workers


def _place(listed: tuple[Place, Timer]) -> Place:
    return listed[0]

"""The timers of one namespace: which shard a call concerns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from celery_redis_expiry.errors import NotReplicated, StoreUnavailable
from celery_redis_expiry.keys import found_at, label_of, member_of, new_token, place_of, shard_of
from celery_redis_expiry.store.link import Link
from celery_redis_expiry.store.operators import Operators
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.users import CONTENTION
from celery_redis_expiry.timer import Claimed, Outcome, Request, Timer

#: What an outcome says of a timer that waits now.
STORED = ("scheduled", "extended", "kept")


class Store(Operators):
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

    def forget_answer(self, requests: Sequence[Request]) -> None:
        """Nobody will repeat the call any more that stored these, all of one shard, and had a token."""
        self.home(requests[0].label).forget_answer(requests)

    def tell_of_key_timer(self, outcome: Outcome) -> None:
        """Tell who watches keys of a timer that waits for one; without that it is found within a minute."""
        with suppress(StoreUnavailable):
            self.home(label_of(outcome.member)).tell_of_key_timer(outcome.member)

    def get(self, target: str, *, by_name: bool = True) -> Timer | None:
        """The timer of this name or task id, or None once its message is in the broker."""
        shard, found = self._find(target, by_name)
        return shard.inspect(found) if found is not None else None

    def reschedule(self, target: str, when: str, *, by_name: bool = True) -> Outcome | None:
        """Give a timer another due time; None if there is no such timer.

        Arguments:
            when: see `Request`.
        """
        return self._move(target, when, "move", by_name)

    def fire(self, target: str) -> Outcome | None:
        """Make a timer due now; None if none waits: what is being published must not be sent twice."""
        return self._move(target, "+0", "fire", by_name=True)

    def _move(self, target: str, when: str, mode: str, by_name: bool) -> Outcome | None:
        timer = self.get(target, by_name=by_name)
        if timer is None:
            return None
        [outcome] = self.schedule([Request(None, when, mode, timer.name, timer.id)])
        outcome.raise_for_status()
        return None if outcome.status in ("missing", "claimed") else outcome

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
            # a compact one lies where its task id says
            own = [(i, self.home(id), place) for i, id in enumerate(ids) if (place := place_of(id))]
            for _, home, place in own:
                pipe.hget(home.keys.timers, place)
                pipe.zscore(home.keys.dead, place)
            answers = pipe.execute()
        found: list[tuple[Shard, str] | None] = [None] * len(ids)
        told = answers[len(self.shards) :]
        for (i, home, _), record, buried in zip(own, told[::2], told[1::2], strict=True):
            handle = found_at(ids[i], record) if buried is None else None
            if handle:
                found[i] = home, member_of(handle)
        for shard, members in zip(self.shards, answers, strict=False):
            for i, member in enumerate(members):
                if member:
                    found[i] = shard, member_of(member)
        return found

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

"""What operators ask of all shards of a namespace, and do to them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter

from celery_redis_expiry.keys import label_of, new_token, shard_of
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.store.cut import Cut
from celery_redis_expiry.store.listing import Place
from celery_redis_expiry.store.shard import Shard
from celery_redis_expiry.store.users import CONTENTION
from celery_redis_expiry.timer import LATEST, DeadLetter, Lain, Timer

#: How many timers are read in one round trip where many are listed.
PAGE = 100


class Operators(Cut):
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
        for _ in range(CONTENTION):
            with self._recut() as current:
                shards = self.shards
                groups: dict[int, list[int]] = {}
                for i, each in enumerate(items):
                    groups.setdefault(shard_of(label_of(each.member), len(shards)), []).append(i)
                for number, group in groups.items():
                    stored = shards[number].put([items[i] for i in group])
                    for i, answer in zip(group, stored, strict=True):
                        answers[i] = self._settled(shards[number], items[i], answer, replace)
            if current():
                return answers
        raise self.calls.restless()

    def _settled(self, shard: Shard, item: Lain, answer: tuple[str, str], replace: bool) -> str:
        status, member = answer
        if status != "taken":
            return status
        for _ in range(CONTENTION if replace else 0):
            if status != "taken" or shard.cancel([member], new_token())[0][0] == "claimed":
                break
            # one timer may have its name, and another its task id
            [(status, member)] = shard.put([item])
        return {"taken": "kept", "put": "replaced"}.get(status, status)

    def recover(self) -> int:
        """Release what dead workers had claimed, as an expiry worker does by itself; returns how many."""
        self.permit("operator")
        recovered = 0
        for shard in self.shards:
            while count := shard.recover(PAGE):
                recovered += count
        return recovered

    def key_timers(self) -> int:
        """How many timers wait for a user's own key."""
        shards = self.shards
        with self.link.translated():
            pipe = self.link.client.pipeline(transaction=False)
            for shard in shards:
                pipe.zcount(shard.keys.due, LATEST, LATEST)
            return int(sum(pipe.execute()))

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

    def dead_letters(self, limit: int = PAGE) -> list[DeadLetter]:
        """The newest dead letters, newest first."""
        return list(islice(self.all_dead_letters(page=min(limit, PAGE)), limit))

    def all_dead_letters(self, *, page: int = PAGE) -> Iterator[DeadLetter]:
        """The dead letters, newest first, read page by page while they are taken.

        Arguments:
            page: how many are read in one round trip, of each shard.
        """
        each = [shard.all_dead_letters(page) for shard in self.shards]
        return heapq.merge(*each, key=attrgetter("buried"), reverse=True)

    def retry(self, letter: DeadLetter) -> bool:
        """Make a dead letter a timer again, due at once; False if there is none.

        Raises:
            TimerExists: it recurs, and another timer waits under its name.
        """
        self.permit("operator")
        return self.shards[letter.shard].retry(letter, self.shards[0].add_beat_name)

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

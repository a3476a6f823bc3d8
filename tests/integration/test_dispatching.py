"""The dispatcher: in which order, what it claims ahead, and that nothing stays claimed unpublished."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.store import SLICE, Shard, store_of
from celery_redis_expiry.timer import as_datetime
from celery_redis_expiry.worker.applier import Applier
from celery_redis_expiry.worker.bounds import Bounds
from celery_redis_expiry.worker.dispatcher import TOGETHER, Dispatcher
from celery_redis_expiry.worker.firing import InPlace
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.pace import Pace
from celery_redis_expiry.worker.publishing import BrokerUnavailable, Lease, Parcel
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.settler import Settler
from celery_redis_expiry.worker.teller import Teller
from tests.servers.redis import RedisServer
from tests.waiting import eventually

BATCH = 2 * TOGETHER


def _anything(label: str) -> None: ...


class Broker:
    """In place of the publisher: takes everything, in order."""

    channel = None

    def __init__(self) -> None:
        self.got: list[list[str]] = []
        self.away = False
        self.meanwhile: Callable[[Lease], None] = lambda lease: None

    def connect(self) -> None:
        if self.away:
            raise BrokerUnavailable("away")

    def is_apart(self, store: Any) -> bool:
        return True

    def publish(self, parcels: list[Parcel], lease: Lease) -> None:
        self.meanwhile(lease)
        self.got.append([parcel.claim.label for parcel in parcels])
        for parcel in parcels:
            parcel.settle("published")

    def close(self) -> None:
        pass


class Heard:
    """In place of what is heard of Redis: events are proven to arrive."""

    def events(self, shard: int) -> bool:
        return True

    def wakes(self, shard: int) -> bool:
        return True

    def doubt(self, shard: int) -> None:
        pass


class Worker:
    """The parts of an expiry worker that claim and publish, turned by hand."""

    def __init__(self, server: RedisServer) -> None:
        app = Celery("dispatching", broker=server.url(), set_as_current=False)
        app.conf.task_ignore_result = True
        self.task = app.task(_anything, name="dispatching.task", shared=False)
        self.redis = server.client()
        store = store_of(app)
        self.shard: Shard = store.shards[0]
        self.broker: Any = Broker()
        self.lanes = Lanes()
        figures, hearing = Figures(), Heard()
        in_place = InPlace(app, store, self.broker, self.lanes, figures, wanted=False)

        def settler() -> Settler:
            return Settler(store, self.lanes, "worker", Bounds(10, 1), figures)

        self.dispatcher = Dispatcher(
            *(store, self.lanes, self.broker, settler()),
            *(Applier(store, self.broker, settler()), Teller(app, figures), in_place),
            Recurrence(app, figures),
            lease=60,
            batch=BATCH,
        )
        self.pace = Pace(
            *(self.shard, self.lanes, hearing),  # type: ignore[arg-type]
            announced="worker",
            batch=BATCH,
            sweeps=[],
            figures=figures,
        )

    def schedule(self, count: int) -> list[str]:
        """Timers that are due in one moment; their members, once they are."""
        due = as_datetime(self.shard.now()) + timedelta(seconds=0.5)
        summary = schedule_many_on_expiry(
            {"signature": self.task.s(str(i)), "key": f"burst:{i}", "at": due} for i in range(count)
        )
        assert not summary.errors
        return self.due(count)

    def due(self, count: int) -> list[str]:
        """The members of so many, once they are due."""

        def due() -> list[str]:
            return [member for member, _ in self.shard.look("test", limit=10_000, parked=0).due]

        return eventually(lambda: found if len(found := due()) == count else [])

    def counts(self) -> tuple[int, int]:
        """How many are in the due index, and how many are claimed."""
        keys = self.shard.keys
        return self.redis.zcard(keys.due), self.redis.zcard(keys.claimed)

    def drain(self) -> None:
        """Go on until nothing is left."""

        def empty() -> bool:
            self.pace.keep()
            while self.dispatcher._ahead or self.lanes.wait(0):
                self.dispatcher.one_pass()
            return self.counts() == (0, 0)

        eventually(empty)

    def close(self) -> None:
        self.dispatcher.close()
        self.redis.close()


@pytest.fixture
def worker(redis_server: RedisServer) -> Iterator[Worker]:
    worker = Worker(redis_server)
    yield worker
    worker.close()


def test_what_falls_due_overtakes_a_burst_whatever_its_events_say(worker: Worker) -> None:
    """It waits for no more than the two batches that are on their way."""
    members = worker.schedule(10 * TOGETHER)
    random.shuffle(members)
    worker.pace.keep()
    worker.lanes.fire_all(0, members)
    worker.dispatcher.one_pass()
    schedule_on_expiry(worker.task.s("fresh"), key="fresh", seconds=0.001)
    left = [*members[TOGETHER:], worker.due(worker.counts()[0])[-1]]
    # the event of each of them came; its own is the last
    worker.lanes.fire_all(0, left)
    worker.pace.keep()
    for _ in range(2):
        worker.dispatcher.one_pass()
    assert worker.broker.got[2] == ["fresh"]
    worker.drain()
    published = [label for batch in worker.broker.got for label in batch]
    assert len(published) == len(set(published)) == 10 * TOGETHER + 1
    assert max(map(len, worker.broker.got)) <= TOGETHER, "one script holds Redis for no longer"


def test_the_next_batch_is_claimed_while_one_is_published(worker: Worker) -> None:
    worker.lanes.catch_up(0, worker.schedule(3 * TOGETHER))

    def claimed_both(lease: Lease) -> None:
        eventually(lambda: worker.counts() == (TOGETHER, 2 * TOGETHER))

    worker.broker.meanwhile = claimed_both
    worker.dispatcher.one_pass()
    assert worker.counts() == (TOGETHER, TOGETHER)


def test_what_is_claimed_ahead_stays_claimed_while_the_broker_takes_its_time(worker: Worker) -> None:
    worker.lanes.catch_up(0, worker.schedule(2 * TOGETHER))
    leases: list[float] = []

    def slow(lease: Lease) -> None:
        eventually(lambda: worker.counts() == (0, 2 * TOGETHER))
        eventually(lease.also)
        worker.redis.zadd(worker.shard.keys.claimed, dict.fromkeys(ends(), 1))
        for each in (lease, *lease.also()):
            each._ends = time.monotonic() + each.seconds / 3
        lease.keep_up()
        leases.extend(ends().values())

    def ends() -> dict[Any, float]:
        return dict(worker.redis.zrange(worker.shard.keys.claimed, 0, -1, withscores=True))

    worker.broker.meanwhile = slow
    worker.dispatcher.one_pass()
    assert len(leases) == 2 * TOGETHER
    assert min(leases) > 1


def test_nothing_stays_claimed_when_the_broker_goes_away(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_redis_expiry.worker.dispatcher.RECONNECT", (0.0, 0.0))
    members = worker.schedule(2 * TOGETHER)
    worker.lanes.catch_up(0, members)
    worker.dispatcher.one_pass()
    eventually(lambda: worker.counts() == (0, TOGETHER))
    worker.broker.away = True
    worker.dispatcher.one_pass()
    assert worker.counts() == (TOGETHER, 0)
    assert not worker.lanes.known(0, members)
    worker.broker.away = False
    worker.drain()
    assert sum(map(len, worker.broker.got)) == 2 * TOGETHER


def test_nothing_stays_claimed_when_it_stops(worker: Worker) -> None:
    worker.lanes.catch_up(0, worker.schedule(2 * TOGETHER))
    worker.dispatcher.one_pass()
    worker.dispatcher.stopping.set()
    worker.dispatcher.one_pass()
    worker.dispatcher.close()
    assert worker.counts() == (TOGETHER, 0)


def test_what_redis_does_not_answer_is_left_to_the_index(worker: Worker) -> None:
    """A claim ahead fails as any other: the shard rests, and its timers fire when it has rested."""
    members = worker.schedule(2 * TOGETHER)
    worker.lanes.catch_up(0, members)
    asked: list[float] = []
    worker.dispatcher.hungry = lambda shard, after=0.0: asked.append(after)

    def spoil(lease: Lease) -> None:
        eventually(lambda: worker.counts() == (0, 2 * TOGETHER))
        worker.dispatcher._ahead._claims.result()  # type: ignore[union-attr]

    worker.broker.meanwhile = spoil
    worker.dispatcher.one_pass()
    worker.broker.meanwhile = lambda lease: None
    key = worker.shard.keys.claims
    kept = worker.redis.dump(key)
    worker.redis.set(key, "of another type")
    worker.dispatcher.one_pass()
    assert asked[-1] > 0
    worker.redis.restore(key, 0, kept, replace=True)
    assert worker.counts() == (0, TOGETHER), "published, and acked as soon as Redis answers"
    worker.dispatcher._settler._acked_again = 0
    worker.dispatcher._settler.ack_again()
    assert worker.counts() == (0, 0)


@pytest.mark.parametrize("overlap", [True, False])
def test_a_recurring_timer_is_looked_for_again_after_its_pass(worker: Worker, overlap: bool) -> None:
    """What tells of its next instant during the pass finds it taken: it has the same member."""
    made = schedule_on_expiry(worker.task.s("r"), 0, every=0.1, key="r", overlap=overlap)
    [member] = worker.due(1)
    told: list[str] = []

    def tell(lease: Lease) -> None:
        eventually(lambda: member in dict(worker.shard.look("test", limit=10, parked=0).due))
        worker.lanes.fire(0, member)
        worker.pace.keep()
        told.append(member)

    worker.broker.meanwhile = tell
    worker.lanes.fire(0, member)
    hungry: list[set[str]] = []
    worker.dispatcher.hungry = lambda shard, after=0.0: hungry.append(worker.lanes.known(shard, [member]))
    worker.dispatcher.one_pass()
    assert (len(told), len(worker.broker.got)) == (1, 1)
    assert not worker.lanes.wait(0), "nobody knows of it any more"
    assert hungry[-1:] == [set()], "asked for when it is not taken any more"
    made.cancel()


def test_of_what_fires_in_place_a_slice_is_taken_at_once(worker: Worker) -> None:
    """Events of a burst come in no order: the index, which knows what is fresh, has its turn after each."""
    taken: list[int] = []

    class Possible:
        possible = True

        def fire(self, shard: Shard, members: list[Any], *, more: bool) -> list[Any]:
            taken.append(len(members))
            return []

    worker.dispatcher._in_place = Possible()  # type: ignore[assignment]
    worker.dispatcher._size = 40  # for a broker that was slow
    worker.lanes.fire_all(0, [f"token:{number}" for number in range(2 * SLICE + 5)])
    for _ in range(3):
        worker.dispatcher.one_pass()
    assert taken == [SLICE, SLICE, 5]

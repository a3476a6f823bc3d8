"""The figures of an expiry worker: exact counts, latenesses by two digits, minutes that pass."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.timer import Claimed, Stored
from celery_redis_expiry.worker.publishing import Parcel
from celery_redis_expiry.worker.reporting.figures import BOUNDS, SLOT, WINDOW, Figures, Latenesses
from celery_redis_expiry.worker.reporting.glance import Glance, Seen
from celery_redis_expiry.worker.reporting.stats import block
from tests.waiting import eventually


class Clock:
    now = 1e6

    def __call__(self) -> float:
        return self.now


def test_split_by_how_they_were_told_of() -> None:
    figures = Figures()
    figures.fired([(True, 0.002), (False, 0.1), (True, 0.004)])
    figures.recovered(2)
    figures.recovered(1)
    figures.buried()
    figures.called_off(2)
    figures.called_off(5)
    told = figures.snapshot()
    assert (told.by_event.count, told.by_sweep.count, told.recent.count) == (2, 1, 3)
    assert (told.by_event.sum, told.by_sweep.sum) == pytest.approx((0.006, 0.1))
    assert (told.recovered, told.buried, told.called_off) == (3, 1, 7)


def test_a_snapshot_changes_no_more() -> None:
    figures = Figures()
    figures.fired([(True, 0.002)])
    told = figures.snapshot()
    figures.fired([(True, 0.002)])
    assert (told.by_event.count, told.recent.count) == (1, 1)


def test_what_is_older_than_the_window_is_in_the_totals_alone() -> None:
    clock = Clock()
    figures = Figures(clock)
    figures.fired([(True, 5.0)])
    clock.now += WINDOW - SLOT
    figures.fired([(False, 0.5)])
    assert figures.snapshot().recent.max == 5.0
    clock.now += SLOT
    told = figures.snapshot()
    assert (told.recent.count, told.recent.max, told.recent.quantile(0.99)) == (1, 0.5, 0.5)
    assert (told.by_event.count, told.by_event.max) == (1, 5.0)
    clock.now += 100 * WINDOW
    told = figures.snapshot()
    assert (told.recent.count, told.recent.quantile(0.5)) == (0, None)
    assert (told.by_event.count, told.by_sweep.count) == (1, 1)


@pytest.mark.parametrize("scale", [0.001, 0.1, 30.0, 5000.0])
def test_quantiles_are_right_to_a_tenth(scale: float) -> None:
    chance = random.Random(7)
    latenesses = sorted(chance.expovariate(1 / scale) for _ in range(5000))
    counted = Latenesses()
    for lateness in latenesses:
        counted.add(lateness)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = latenesses[max(0, round(share * 5000) - 1)]
        told = counted.quantile(share)
        assert told is not None
        assert exact <= told <= max(exact * 1.1, BOUNDS[0])
    assert counted.quantile(1.0) == counted.max == latenesses[-1]


@pytest.mark.parametrize("lateness", [0.0, 1e-9, 1e7, float("inf")])
def test_the_ends_of_the_scale(lateness: float) -> None:
    counted = Latenesses()
    counted.add(lateness)
    assert sum(counted.counts) == counted.count == 1
    assert counted.max == lateness


def test_limits_include_what_is_exactly_so_late() -> None:
    counted = Latenesses()
    for lateness in (0.001, 0.0010001, 0.25, 0.2500001):
        counted.add(lateness)
    assert counted.up_to([0.001, 0.0025, 0.25, 1.0]) == [1, 2, 3, 4]


def test_threads_lose_nothing() -> None:
    figures = Figures()

    def fire() -> None:
        for _ in range(200):
            figures.fired([(True, 0.001), (False, 0.001)])
            figures.recovered(1)

    threads = [threading.Thread(target=fire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = figures.snapshot()
    assert (told.by_event.count, told.by_sweep.count, told.recovered) == (1600, 1600, 1600)


def test_lateness_goes_on_after_the_claim() -> None:
    parcel = Parcel(Stored("x", {}), Claimed("g:x", "x", 0, 0, b"", due_local=100.0))
    parcel.settle("published")
    assert parcel.lateness == pytest.approx(parcel.settled - 100.0)
    parcel.claim.due_local = parcel.settled + 1
    assert parcel.lateness == 0


class FakeStore:
    """A store that answers when it is let."""

    namespace = "shop"
    shards = (0,)

    class location:
        url = "redis://somewhere"

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = 0
        self.error: Exception | None = None

    def overdue(self, seconds: float) -> tuple[int, float]:
        self.asked += 1
        assert self.may_answer.wait(20)
        if self.error:
            raise self.error
        return 2, 1.5

    def counts(self) -> dict[str, int]:
        return {"waiting": 5, "parked": 1, "claimed": 0, "dead": 3}


@pytest.fixture
def store() -> Any:
    return FakeStore()


def test_a_glance_waits_no_longer_than_it_is_given_and_asks_once(store: Any) -> None:
    glance = Glance(store)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"redis://somewhere did not answer within 0\.01 s"):
            glance.look(0.01)
    assert store.asked == 1
    store.may_answer.set()
    assert glance.look(20) == Seen(waiting=5, parked=1, claimed=0, dead=3, due=2, oldest=1.5)


def test_a_glance_looks_anew_each_time(store: Any) -> None:
    store.may_answer.set()
    glance = Glance(store)
    store.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable, match="away"):
        glance.look(20)
    store.error = KeyError("unheard of")
    with pytest.raises(StoreUnavailable, match="unheard of"):
        glance.look(20)
    store.error = None
    assert glance.look(20).due == 2
    assert eventually(lambda: all(t.name != "expiry-glance" for t in threading.enumerate()), what="no thread")


def test_the_block_where_nothing_fired_and_redis_is_away(store: Any) -> None:
    store.may_answer.set()
    store.error = StoreUnavailable("away")
    assert block(
        store, Glance(store), Figures().snapshot(), notifications=False, not_in_place="it is off"
    ) == {
        "redis": "redis://somewhere",
        "namespace": "shop",
        "shards": 1,
        **dict.fromkeys(("waiting", "parked", "due", "claimed", "dead")),
        **dict.fromkeys(("fired", "fired_by_event", "fired_by_sweep", "fired_in_place"), 0),
        **dict.fromkeys(("recovered", "called_off", "skipped", "missed"), 0),
        "lateness": {"p50": None, "p99": None, "max": None, "count": 0, "window": 300},
        "notifications": False,
        "in_place": False,
        "not_in_place": "it is off",
        "error": "away",
    }

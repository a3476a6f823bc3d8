"""The pace of one shard, with a store that says what there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_redis_expiry.store import Due, Look
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.pace import DEAF, GRACE, Pace
from celery_redis_expiry.worker.reporting.figures import Figures

NOW = 1_900_000_000_000.0


class FakeShard:
    number = 0

    def __init__(self) -> None:
        self.due: list[tuple[str, int]] = []
        self.newest: list[tuple[str, int]] = []
        self.lease: int | None = None
        self.touched: list[str] = []
        self.coming: tuple[list[Due], int] = [], 0
        self.looked: Callable[[], object] = lambda: None
        self.asked = self.ahead = 0
        self.recovered = 0
        self.figures = Figures()

    def look(self, worker: str, *, limit: int, newest: int, parked: int, ahead: int) -> Look:
        self.asked, self.ahead = limit, ahead
        self.looked()
        coming, when = self.coming
        coming = coming[:ahead]
        return Look(
            *(NOW, int(NOW) + 60_000, self.lease, self.due[:limit], self.newest, []),
            next_due=when if coming else None,
            next=coming,
        )

    def touch(self, members: list[str]) -> None:
        self.touched += members

    def recover(self, limit: int) -> int:
        self.recovered += 1
        return 1


class FakeHearing:
    def __init__(self) -> None:
        self.on = True
        self.checked = 0

    def events(self, shard: int) -> bool:
        return self.on

    def wakes(self, shard: int) -> bool:
        return True

    def doubt(self, shard: int) -> None:
        self.checked += 1


@pytest.fixture
def parts() -> tuple[Any, Lanes, Any, Pace]:
    shard: Any = FakeShard()
    hearing: Any = FakeHearing()
    lanes = Lanes()
    pace = Pace(*(shard, lanes, hearing), announced="w", batch=5, sweeps=[], figures=shard.figures)
    return shard, lanes, hearing, pace


def test_what_falls_due_is_touched_and_not_claimed(parts: Any) -> None:
    shard, lanes, _, pace = parts
    shard.due = [("a", int(NOW) - 1)]
    pace.keep()
    assert shard.touched == ["a"]
    assert lanes.take(10)[1] == []


def test_what_is_still_there_after_the_grace_is_claimed_by_the_index(parts: Any) -> None:
    shard, lanes, hearing, pace = parts
    shard.due = [("a", int(NOW) - 1)]
    pace.keep()
    pace._touched["a"] -= 2 * GRACE
    pace.keep()
    assert lanes.take(10)[1] == [("a", False)]
    assert hearing.checked == 1, "an event that did not come is a reason to prove them anew"


def test_without_notifications_it_claims_at_once(parts: Any) -> None:
    shard, lanes, hearing, pace = parts
    hearing.on = False
    shard.due = [("a", int(NOW) - 1)]
    pace.keep()
    assert lanes.take(10)[1] == [("a", False)]
    assert shard.touched == []


def test_what_fell_due_long_ago_is_claimed_at_once(parts: Any) -> None:
    shard, lanes, _, pace = parts
    shard.due = [("a", int(NOW) - 3_600_000)]
    pace.keep()
    assert lanes.take(10)[1] == [("a", False)]


def test_a_backlog_is_claimed_directly_with_the_newest_first(parts: Any) -> None:
    shard, lanes, _, pace = parts
    shard.due = [(str(i), int(NOW) - 1) for i in range(5)]
    shard.newest = [("new", int(NOW) - 1)]
    pace.keep()
    assert [member for member, _ in lanes.take(10)[1]] == ["new"]
    assert [member for member, _ in lanes.take(10)[1]] == ["0", "1", "2", "3", "4"]


def test_of_a_backlog_only_what_fell_due_since_the_last_look_is_fresh(parts: Any) -> None:
    """Else the burst itself, whose newest are always there, would overtake what falls due while it drains."""
    shard, lanes, _, pace = parts
    shard.due = [(str(i), int(NOW) - 9) for i in range(5)]
    pace.keep()
    lanes.take(10)
    shard.newest = [("new", int(NOW)), ("burst", int(NOW) - 9)]
    pace.keep()
    assert [member for member, _ in lanes.take(10)[1]] == ["new"]


def test_few_of_the_oldest_are_looked_at_while_the_lane_is_filled(parts: Any) -> None:
    shard, lanes, _, pace = parts
    pace._batch = 500
    pace.keep()
    assert shard.asked == 500
    lanes.catch_up(0, map(str, range(500)))
    pace.keep()
    assert shard.asked < 500


def test_a_backlog_that_events_told_of_is_not_read_again_and_again(parts: Any) -> None:
    shard, lanes, _, pace = parts
    pace._batch = 100
    shard.due = [(str(i), int(NOW) - 1) for i in range(100)]
    lanes.fire_all(0, map(str, range(100)))
    began = time.monotonic()
    assert pace.keep() < began + DEAF, "but soon"
    pace.keep()
    assert shard.asked < 100
    pace._rests_until = 0
    pace.keep()
    assert shard.asked == 100


def test_what_is_being_published_is_left_alone(parts: Any) -> None:
    shard, lanes, hearing, pace = parts
    lanes.fire(0, "a")
    shard.due = [("a", int(NOW) - 1)]
    pace.keep()
    assert shard.touched == []
    assert hearing.checked == 0


def test_an_ended_lease_is_recovered(parts: Any) -> None:
    shard, _, _, pace = parts
    shard.lease = int(NOW) - 1
    pace.keep()
    assert shard.recovered == 1
    assert shard.figures.snapshot().recovered == 1


def test_what_is_late_while_its_shard_rests_is_looked_at_when_it_has_rested(parts: Any) -> None:
    shard, lanes, _, pace = parts
    shard.due = [("a", int(NOW) - 3_600_000)]
    lanes.rest(0, 5)
    began = time.monotonic()
    assert began < pace.keep() <= began + 5 + 1
    shard.due = []
    assert pace.keep() > began + 30, "nothing is late"


def test_where_more_is_due_than_one_look_shows_it_looks_again_soon(parts: Any) -> None:
    """All of it may be known already, and what found no place in the lanes is known to the index alone."""
    shard, lanes, _, pace = parts
    shard.due = [(str(i), int(NOW) - 1) for i in range(5)]
    for i in range(5):
        lanes.fire(0, str(i))
    began = time.monotonic()
    assert pace.keep() < began + 30


def _in_place(parts: Any) -> tuple[Any, Lanes, Pace, list[str]]:
    """A pace whose timers fire in place, and what it told before of those that come."""
    shard, lanes, hearing, _ = parts
    told: list[str] = []
    pace = Pace(
        *(shard, lanes, hearing),
        announced="w",
        batch=5,
        sweeps=[],
        figures=shard.figures,
        direct=lambda: True,
        expect=lambda number, coming: told.extend(due.member for due in coming),
    )
    return shard, lanes, pace, told


def test_in_place_what_falls_due_next_is_handed_over_before_redis_is_asked_for_it(parts: Any) -> None:
    shard, lanes, pace, told = _in_place(parts)
    shard.coming = [Due("a", b"a", False, b"..."), Due("b", b"b", False, b"...")], int(NOW) - 1
    pace.keep()
    assert told == ["a", "b"]
    assert lanes.take(10)[1] == [], "it is not due before the clock has moved on"
    shard.coming = [], 0
    seen: list[Any] = []
    shard.looked = lambda: seen.append(lanes.take(10)[1])
    pace.keep()
    assert seen == [[("a", False), ("b", False)]], "they were there before the look"
    pace.keep()
    assert seen[1:] == [[]], "once"


def test_in_place_what_falls_due_next_is_not_handed_over_too_early(parts: Any) -> None:
    shard, lanes, pace, _ = _in_place(parts)
    shard.coming = [Due("a", b"a", False, b"...")], int(NOW) + 5_000
    pace.keep()
    pace.keep()
    assert lanes.take(10)[1] == []


def test_where_timers_are_published_nothing_is_read_ahead(parts: Any) -> None:
    shard, _, _, pace = parts
    shard.coming = [Due("a", b"a", False, b"...")], int(NOW) - 1
    pace.keep()
    assert shard.ahead == 0

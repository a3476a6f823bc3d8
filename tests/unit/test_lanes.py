"""The lanes: fair, bounded, and no timer twice."""

from __future__ import annotations

from celery_redis_expiry.worker.lanes import LANE, Lanes


def test_an_event_does_not_wait_behind_the_backlog() -> None:
    lanes = Lanes()
    lanes.catch_up(0, (f"late:{i}" for i in range(1000)))
    lanes.fire(0, "now")
    assert ("now", True) in lanes.take(10)[1]


def test_the_backlog_does_not_wait_behind_events() -> None:
    lanes = Lanes()
    lanes.catch_up(0, ["late"])
    for i in range(1000):
        lanes.fire(0, f"now:{i}")
    assert ("late", False) in lanes.take(10)[1]


def test_the_newest_of_the_backlog_come_first_and_the_oldest_follow() -> None:
    lanes = Lanes()
    lanes.catch_up(0, ["old:1", "old:2"], ["new"])
    assert [member for member, _ in lanes.take(3)[1]] == ["new", "old:1", "old:2"]


def test_a_timer_stands_in_one_lane() -> None:
    lanes = Lanes()
    lanes.catch_up(0, ["x"])
    lanes.fire(0, "x")
    lanes.catch_up(0, ["x"], ["x"])
    assert lanes.take(10)[1] == [("x", True)]
    assert lanes.knows(0, "x")
    assert lanes.done(0, ["x"])
    assert not lanes.knows(0, "x")


def test_the_late_event_of_a_published_timer_is_no_work() -> None:
    lanes = Lanes()
    lanes.published(["x"])
    lanes.fire(0, "x")
    assert lanes.take(10)[1] == []
    # but the index is believed: Redis was not told that it was published
    lanes.catch_up(0, ["x"])
    assert lanes.take(10)[1] == [("x", False)]


def test_bounded() -> None:
    lanes = Lanes()
    for i in range(LANE + 10):
        lanes.fire(0, str(i))
    lanes.catch_up(0, (f"late:{i}" for i in range(LANE + 10)))
    assert len(lanes.take(10 * LANE)[1]) == 2 * LANE


def test_closing_ends_the_wait() -> None:
    lanes = Lanes()
    lanes.close()
    assert not lanes.wait(60)


def test_shards_take_turns() -> None:
    lanes = Lanes(3)
    for member in ("a", "b", "c"):
        lanes.fire(2, member)
    lanes.fire(0, "x")
    assert lanes.take(2) == (2, [("a", True), ("b", True)])
    lanes.done(2, ["a", "b"])
    assert lanes.take(2) == (0, [("x", True)])
    lanes.done(0, ["x"])
    assert lanes.take(2) == (2, [("c", True)])
    lanes.done(2, ["c"])
    assert not lanes.wait(0)


def test_a_shard_that_rests_is_no_work() -> None:
    lanes = Lanes(2)
    lanes.fire(0, "a")
    lanes.fire(1, "b")
    lanes.rest(0, 60)
    lanes.fire(0, "c")
    lanes.catch_up(0, ["d"])
    assert lanes.take(10) == (1, [("b", True)])
    assert not lanes.knows(0, "a")
    lanes.rest(0, 0)
    lanes.fire(0, "c")
    lanes.done(1, ["b"])
    assert lanes.take(10) == (0, [("c", True)])


def test_many_events_at_once() -> None:
    """As if each came by itself: what waits moves over, what is published is no work, the lane is bounded."""
    lanes = Lanes()
    lanes.catch_up(0, ["late"])
    lanes.published(["sent"])
    lanes.fire_all(0, ["sent", "late", "new"])
    assert lanes.take(10)[1] == [("late", True), ("new", True)]
    assert lanes.known(0, ["sent", "late", "new", "none"]) == {"late", "new"}
    lanes.fire_all(0, map(str, range(LANE)))
    assert len(lanes.known(0, map(str, range(LANE)))) == LANE - 2


def test_events_of_what_is_published_are_no_work() -> None:
    lanes = Lanes()
    lanes.published(["sent"])
    lanes.fire_all(0, ["sent"])
    assert not lanes.wait(0)

"""The lanes: fair, bounded, and no timer twice."""

from __future__ import annotations

from celery_redis_expiry.worker.lanes import LANE, Lanes


def test_an_event_does_not_wait_behind_the_backlog() -> None:
    lanes = Lanes()
    lanes.catch_up(f"late:{i}" for i in range(1000))
    lanes.fire("now")
    assert ("now", True) in lanes.take(10)


def test_the_backlog_does_not_wait_behind_events() -> None:
    lanes = Lanes()
    lanes.catch_up(["late"])
    for i in range(1000):
        lanes.fire(f"now:{i}")
    assert ("late", False) in lanes.take(10)


def test_the_newest_of_the_backlog_come_first_and_the_oldest_follow() -> None:
    lanes = Lanes()
    lanes.catch_up(["old:1", "old:2"], ["new"])
    assert [member for member, _ in lanes.take(3)] == ["new", "old:1", "old:2"]


def test_a_timer_stands_in_one_lane() -> None:
    lanes = Lanes()
    lanes.catch_up(["x"])
    lanes.fire("x")
    lanes.catch_up(["x"], ["x"])
    assert lanes.take(10) == [("x", True)]
    assert lanes.knows("x")
    assert lanes.done(["x"])
    assert not lanes.knows("x")


def test_the_late_event_of_a_published_timer_is_no_work() -> None:
    lanes = Lanes()
    lanes.published(["x"])
    lanes.fire("x")
    assert lanes.take(10) == []
    # but the index is believed: Redis was not told that it was published
    lanes.catch_up(["x"])
    assert lanes.take(10) == [("x", False)]


def test_bounded() -> None:
    lanes = Lanes()
    for i in range(LANE + 10):
        lanes.fire(str(i))
    lanes.catch_up(f"late:{i}" for i in range(LANE + 10))
    assert len(lanes.take(10 * LANE)) == 2 * LANE


def test_closing_ends_the_wait() -> None:
    lanes = Lanes()
    lanes.close()
    assert not lanes.wait(60)

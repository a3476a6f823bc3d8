"""The lanes: fair, bounded, and no timer twice."""

from __future__ import annotations

from celery_redis_expiry.worker.lanes import FRESH, LANE, Lanes


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


def members(taken: tuple[int, list[tuple[str, bool]]]) -> list[str]:
    return [member for member, _ in taken[1]]


def test_what_is_fresh_is_a_batch_of_its_own_and_the_oldest_follow() -> None:
    lanes = Lanes()
    lanes.catch_up(0, ["old:1", "old:2"], ["new:2", "new:1"])
    assert members(lanes.take(3)) == ["new:2", "new:1"]
    assert members(lanes.take(3)) == ["old:1", "old:2"]


def test_what_is_fresh_overtakes_the_events_of_a_burst() -> None:
    """Its own event came too, somewhere among theirs: it says nothing of when the timer was due."""
    lanes = Lanes()
    lanes.fire_all(0, [f"burst:{i}" for i in range(LANE - 1)])
    lanes.fire(0, "fresh")
    lanes.catch_up(0, [], ["fresh"])
    assert lanes.take(10)[1] == [("fresh", True)]
    assert "fresh" not in members(lanes.take(2 * LANE)), "it stands in one lane"


def test_what_is_fresh_does_not_hold_the_others_up() -> None:
    """However much falls due, every other batch is of the burst."""
    lanes = Lanes()
    lanes.catch_up(0, [f"old:{i}" for i in range(100)])
    lanes.fire_all(0, [f"event:{i}" for i in range(100)])
    batches = []
    for i in range(4):
        lanes.catch_up(0, [], [f"fresh:{i}:{j}" for j in range(10)])
        batches.append(members(lanes.take(10)))
    assert [{member.partition(":")[0] for member in batch} for batch in batches] == [
        {"fresh"},
        {"old", "event"},
        {"fresh"},
        {"old", "event"},
    ]
    assert batches[2][0].startswith("fresh:2"), "the newest first"


def test_what_is_fresh_is_bounded_and_the_index_knows_the_rest() -> None:
    lanes = Lanes()
    lanes.catch_up(0, [], ["old"])
    lanes.catch_up(0, [], map(str, range(FRESH)))
    assert not lanes.knows(0, "old")
    assert lanes.knows(0, str(FRESH - 1))
    assert lanes.lacks(0)


def test_an_event_of_what_is_fresh_or_taken_makes_no_second_place() -> None:
    lanes = Lanes()
    lanes.catch_up(0, [], ["x"])
    lanes.fire(0, "x")
    assert lanes.take(10)[1] == [("x", True)]
    lanes.fire(0, "x")
    lanes.catch_up(0, ["x"], ["x"])
    assert not lanes.wait(0)
    assert lanes.knows(0, "x")
    lanes.done(0, ["x"])
    assert not lanes.knows(0, "x")


def test_a_batch_can_be_taken_before_the_last_is_done() -> None:
    lanes = Lanes()
    lanes.fire_all(0, ["a", "b", "c"])
    assert members(lanes.take(2)) == ["a", "b"]
    assert members(lanes.take(2)) == ["c"]
    assert lanes.known(0, ["a", "b", "c"]) == {"a", "b", "c"}


def test_the_index_is_asked_again_when_what_it_told_is_taken() -> None:
    lanes = Lanes()
    lanes.fire(0, "event")
    assert not lanes.lacks(0), "events tell all there is"
    lanes.catch_up(0, ["late"])
    assert not lanes.lacks(0)
    lanes.take(10)
    assert lanes.lacks(0)
    assert not lanes.lacks(0), "once"
    lanes.fire_all(0, map(str, range(LANE + 1)))
    assert lanes.lacks(0), "an event found no place"


def test_a_timer_stands_in_one_lane() -> None:
    lanes = Lanes()
    lanes.catch_up(0, ["x"])
    lanes.fire(0, "x")
    lanes.catch_up(0, ["x"], ["x"])
    assert lanes.take(10)[1] == [("x", True)]
    assert not lanes.wait(0)


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
    lanes.fire_all(0, map(str, range(LANE + 10)))
    assert len(lanes.known(0, map(str, range(LANE + 10)))) == LANE


def test_events_of_what_is_published_are_no_work() -> None:
    lanes = Lanes()
    lanes.published(["sent"])
    lanes.fire_all(0, ["sent"])
    assert not lanes.wait(0)


def test_what_fired_in_place_leaves_the_lanes() -> None:
    """Only the index knows what comes again."""
    lanes = Lanes()
    lanes.fire_all(0, ["a", "b"])
    lanes.catch_up(0, ["c"])
    lanes.fired(0, ["b", "c"])
    assert members(lanes.take(10)) == ["a"]
    lanes.done(0, ["a"])
    lanes.fire(0, "b")
    assert not lanes.wait(0)
    lanes.catch_up(0, ["b"])
    lanes.fired(0, ["b"])
    assert not lanes.wait(0), "nothing is left to take"
    lanes.catch_up(0, ["b"])
    assert members(lanes.take(10)) == ["b"]

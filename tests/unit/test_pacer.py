"""The pacer's one pass, with a store that says what there is."""

from __future__ import annotations

from typing import Any

import pytest

from celery_redis_expiry.store import Look
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.pacer import GRACE, Pacer

NOW = 1_900_000_000_000.0


class FakeStore:
    def __init__(self) -> None:
        self.due: list[tuple[str, int]] = []
        self.newest: list[tuple[str, int]] = []
        self.lease: int | None = None
        self.touched: list[str] = []
        self.recovered = 0

    def look(self, worker: str, *, limit: int, parked: int) -> Look:
        return Look(NOW, int(NOW) + 60_000, self.lease, self.due[:limit], self.newest, [])

    def touch(self, members: list[str]) -> None:
        self.touched += members

    def recover(self, limit: int) -> int:
        self.recovered += 1
        return 1


class FakeNotifications:
    def __init__(self) -> None:
        self.on = True
        self.subscribed = True
        self.checked = 0

    def check(self) -> None:
        self.checked += 1


@pytest.fixture
def parts() -> tuple[Any, Lanes, Any, Pacer]:
    store, lanes, notifications = FakeStore(), Lanes(), FakeNotifications()
    return store, lanes, notifications, Pacer(store, lanes, notifications, worker="w", batch=5)  # type: ignore[arg-type]


def test_what_falls_due_is_touched_and_not_claimed(parts: Any) -> None:
    store, lanes, _, pacer = parts
    store.due = [("a", int(NOW) - 1)]
    pacer.pace()
    assert store.touched == ["a"]
    assert lanes.take(10) == []


def test_what_is_still_there_after_the_grace_is_claimed_by_the_index(parts: Any) -> None:
    store, lanes, notifications, pacer = parts
    store.due = [("a", int(NOW) - 1)]
    pacer.pace()
    pacer._touched["a"] -= 2 * GRACE
    pacer.pace()
    assert lanes.take(10) == [("a", False)]
    assert notifications.checked == 1, "an event that did not come is a reason to prove them anew"


def test_without_notifications_it_claims_at_once(parts: Any) -> None:
    store, lanes, notifications, pacer = parts
    notifications.on = False
    store.due = [("a", int(NOW) - 1)]
    pacer.pace()
    assert lanes.take(10) == [("a", False)]
    assert store.touched == []


def test_what_fell_due_long_ago_is_claimed_at_once(parts: Any) -> None:
    store, lanes, _, pacer = parts
    store.due = [("a", int(NOW) - 3_600_000)]
    pacer.pace()
    assert lanes.take(10) == [("a", False)]


def test_a_backlog_is_claimed_directly_with_the_newest_first(parts: Any) -> None:
    store, lanes, _, pacer = parts
    store.due = [(str(i), int(NOW) - 1) for i in range(5)]
    store.newest = [("new", int(NOW) - 1)]
    pacer.pace()
    assert [member for member, _ in lanes.take(10)] == ["new", "0", "1", "2", "3", "4"]


def test_what_is_being_published_is_left_alone(parts: Any) -> None:
    store, lanes, notifications, pacer = parts
    lanes.fire("a")
    store.due = [("a", int(NOW) - 1)]
    pacer.pace()
    assert store.touched == []
    assert notifications.checked == 0


def test_an_ended_lease_is_recovered(parts: Any) -> None:
    store, _, _, pacer = parts
    store.lease = int(NOW) - 1
    pacer.pace()
    assert store.recovered == 1

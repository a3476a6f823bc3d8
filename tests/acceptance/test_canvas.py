"""Canvases at their due time, through real workers, with the results Celery users expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult

from celery_redis_expiry import schedule_on_expiry
from tests.site import Site
from tests.waiting import eventually

TIMEOUT = 30


@pytest.fixture
def fired(site: Site) -> Iterator[Site]:
    """Its app is the current one: Celery 5.5 can't apply every canvas of another."""
    with site.current():
        site.expiry()
        yield site


def tree(result: Any) -> list[Any]:
    """Every result that can be reached from one."""
    if result is None:
        return []
    children = list(getattr(result, "results", None) or [])
    return [result, *(each for child in [*children, result.parent] for each in tree(child))]


def test_results_belong_to_the_app_of_the_signature(site: Site) -> None:
    """Not to the current one: a process may have several, and its threads none."""
    add, total = site.task("add"), site.task("total")
    nested = chain(add.s(1, 1), chord([add.s(1), chain(add.s(2), add.s(1))], total.s()), add.s(10))
    results = tree(schedule_on_expiry(nested, seconds=600))
    assert len(results) >= 5
    assert {result.app for result in results} == {site.app}
    assert not any(result.ready() for result in results)


def test_chain(fired: Site) -> None:
    add = fired.task("add")
    result = schedule_on_expiry(chain(add.s(1, 2), add.s(3), add.s(4)), seconds=0.5)
    assert result.remaining is not None
    assert result.get(timeout=TIMEOUT) == 10
    assert result.parent.get(timeout=TIMEOUT) == 6
    assert result.parent.parent.get(timeout=TIMEOUT) == 3
    runs = fired.drain(3)
    assert [run["label"] for run in runs] == ["1+2", "3+3", "6+4"]
    assert [run["request"]["id"] for run in runs] == [result.parent.parent.id, result.parent.id, result.id]


def test_group(fired: Site) -> None:
    add = fired.task("add")
    result = schedule_on_expiry(group(add.s(number, number) for number in range(5)), seconds=0.5)
    assert isinstance(result, GroupResult)
    assert result.due is not None
    assert result.get(timeout=TIMEOUT) == [0, 2, 4, 6, 8]
    runs = fired.drain(5)
    assert sorted(run["request"]["id"] for run in runs) == sorted(child.id for child in result.results)
    assert {run["request"]["group"] for run in runs} == {result.id}


def test_chord(fired: Site) -> None:
    add, total = fired.task("add"), fired.task("total")
    result = schedule_on_expiry(chord([add.s(1, 1), add.s(2, 2)], total.s()), seconds=0.5)
    assert isinstance(result, AsyncResult)
    assert result.get(timeout=TIMEOUT) == 6
    assert len(fired.drain(3)) == 3


def test_chunks(fired: Site) -> None:
    chunks = fired.task("add").chunks([(1, 1), (2, 2), (3, 3)], 2)
    result = schedule_on_expiry(chunks, seconds=0.5)
    assert result.get(timeout=TIMEOUT) == [[2, 4], [6]]
    assert len(fired.drain(3)) == 3


def test_map(fired: Site) -> None:
    result = schedule_on_expiry(fired.task("record").map([1, 2]), seconds=0.5)
    assert result.get(timeout=TIMEOUT) == [1, 2]


@pytest.mark.parametrize("kind", ["chain with chord", "chord of chains", "group of chains", "chain of group"])
def test_nested(fired: Site, kind: str) -> None:
    add, total = fired.task("add"), fired.task("total")
    shapes: dict[str, tuple[Any, Any]] = {
        "chain with chord": (chain(add.s(1, 1), chord([add.s(1), add.s(2)], total.s()), add.s(10)), 17),
        "chord of chains": (
            chord([chain(add.s(1, 1), add.s(1)), add.s(3, 3)], chain(total.s(), add.s(1))),
            10,
        ),
        "group of chains": (group(chain(add.s(1, 1), add.s(1)), chain(add.s(2, 2), add.s(1))), [3, 5]),
        "chain of group": (chain(add.s(1, 1), group(add.s(1), group(add.s(2), add.s(3))), total.s()), 12),
    }
    signature, wanted = shapes[kind]
    direct = signature.clone().apply_async()
    assert direct.get(timeout=TIMEOUT) == wanted  # so Celery itself can do it
    count = len(fired.drain(1))
    result = schedule_on_expiry(signature, seconds=0.5)
    assert result.get(timeout=TIMEOUT) == wanted
    runs = fired.drain(2 * count)
    assert len(runs) == 2 * count
    ids = {run["request"]["id"] for run in runs}
    assert len(ids) == len(runs)
    parent = result.parent
    while parent is not None:  # the whole tree that the user holds is the one that ran
        members = parent.results if isinstance(parent, GroupResult) else [parent]
        assert {member.id for member in members} <= ids or isinstance(parent, GroupResult)
        assert eventually(parent.successful, timeout=TIMEOUT, what=f"{parent!r} is the one that ran")
        parent = parent.parent


def test_cancelled_canvas_never_starts(fired: Site) -> None:
    add = fired.task("add")
    result = schedule_on_expiry(chain(add.s(1, 2), add.s(3)), seconds=1)
    other = schedule_on_expiry(fired.record("other"), seconds=1.2)
    assert result.cancel() is True
    assert other.get(timeout=TIMEOUT) == "other"
    assert [run["label"] for run in fired.drain(1)] == ["other"]


def test_rescheduled_named_group(fired: Site) -> None:
    add = fired.task("add")
    first = schedule_on_expiry(group(add.s(1, 1), add.s(2, 2)), seconds=600, key="group")
    assert first.reschedule(seconds=0.5) is True
    assert first.get(timeout=TIMEOUT) == [2, 4]


def test_delay_beyond_result_expires(fired: Site, make_site: Any) -> None:
    """What the backend keeps of a canvas is written when it starts, so it is not old by then."""
    short = make_site(result_expires=1)
    add, total = short.task("add"), short.task("total")
    result = schedule_on_expiry(chord([add.s(1, 1), add.s(2, 2)], total.s()), seconds=2.5)
    fired.wait_run("total")
    assert len(fired.drain(3)) == 3
    assert result.id in {run["request"]["id"] for run in fired.runs("total")}

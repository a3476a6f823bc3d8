"""Recurring timers with real workers: every occurrence once, also when a worker is killed; none overlaps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from celery_redis_expiry import RecurringTimer, get_timer, schedule_on_expiry
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Run, Site
from tests.waiting import eventually

NAME = "beat"


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    site = make_site(expiry_lease=5)
    site.reset()
    return site


def recurring(site: Site, signature: Any, every: float, **options: Any) -> RecurringTimer:
    made = schedule_on_expiry(signature, every=every, key=NAME, **options)
    assert isinstance(made, RecurringTimer)
    return made


def due_of(run: Run) -> datetime:
    return datetime.fromisoformat(run["request"]["expiry_due"])


def settled(site: Site, label: str) -> list[Run]:
    """All runs, once nothing is on its way any more; the timer is cancelled before."""
    site.drain(len(site.runs(label)))
    return site.runs(label)


def test_every_occurrence_once_though_workers_are_killed(site: Site, ordinary_worker: Worker) -> None:
    site.expiry("steady")
    every = timedelta(seconds=0.5)
    made = recurring(site, site.record("r"), every.total_seconds(), overlap=True)
    first = made.due
    for number in range(2):
        victim = site.expiry(f"victim{number}")
        before = len(site.runs("r"))
        eventually(lambda before=before: len(site.runs("r")) >= before + 3, what="three more occurrences")
        victim.kill()
    fired = made.timer
    assert fired is not None
    # what a dead worker had armed, and not published, is found by the next look at the index
    eventually(
        lambda: len({run["request"]["id"] for run in site.runs("r")}) >= fired.fired, what="all of them"
    )
    last = made.timer
    assert made.cancel() is True
    assert first is not None
    assert last is not None
    runs = settled(site, "r")
    by_id = {run["request"]["id"]: due_of(run) for run in runs}
    # where timers and broker share a Redis, not even a worker's death doubles one
    assert len(runs) == len(by_id)
    dues = sorted(by_id.values())
    assert len(set(dues)) == len(dues), "one occurrence under two task ids"
    # each instant fired, or is among those that were missed; none between them
    assert {(due - first) % every for due in dues} == {timedelta()}
    passed = (dues[-1] - first) // every + 1
    missed = sum({run["request"]["id"]: run["request"]["expiry_missed"] for run in runs}.values())
    assert len(dues) + missed == passed


def test_no_overlap(site: Site) -> None:
    """The next occurrence fires only once the task of the last one has ended, in whatever process."""
    site.app.conf.task_default_queue = "forked"
    site.config["conf"]["task_default_queue"] = "forked"
    site.worker("forked", "-P", "prefork", "-c", "2")
    expiry = site.expiry()
    made = recurring(site, site.task("wait_for").s("r", "go"), 0.3)
    expiry.wait_for("an occurrence was skipped")
    assert len(site.runs("r")) == 1
    assert len(site.runs("go")) == 0
    site.queues.set("go", "1")
    eventually(lambda: len(site.runs("go")) >= 3, what="further occurrences")
    assert made.cancel() is True
    site.drain(6)
    runs = [run["label"] for run in site.runs()]
    assert runs == ["r", "go"] * (len(runs) // 2)


@pytest.mark.parametrize("task", ["fail", "try_twice"])
def test_what_ends_a_task(site: Site, ordinary_worker: Worker, task: str) -> None:
    """A failure does, a retry does not."""
    site.expiry()
    made = recurring(site, site.task(task).s("r"), 0.3)
    eventually(lambda: len({run["request"]["id"] for run in site.runs("r")}) >= 3, what="three occurrences")
    assert made.cancel() is True
    tries = 1 if task == "fail" else 2

    def ids() -> list[str]:
        return [run["request"]["id"] for run in site.runs("r")]

    # what holds a retry for its countdown looks idle
    eventually(lambda: all(ids().count(id) >= tries for id in ids()), what="every try")
    settled(site, "r")
    # one after the other: all tries of one, then those of the next
    assert ids() == [id for id in dict.fromkeys(ids()) for _ in range(tries)]


def test_what_expired_in_the_queue_holds_nothing_up(
    make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer]
) -> None:
    # where nobody else runs tasks
    site = make_site(shared_redis(use="idle"))
    site.reset()
    site.expiry()
    made = recurring(site, site.record("r").set(expires=0.2), 0.3)
    eventually(lambda: (get_timer(NAME, app=site.app) or made.timer).skipped >= 2, what="skipped ones")
    site.ordinary()
    eventually(lambda: len(site.runs("r")) >= 2, what="later occurrences")
    assert made.cancel() is True


def test_missed_while_no_worker_ran(site: Site, ordinary_worker: Worker) -> None:
    made = recurring(site, site.record("r"), 0.3, overlap=True)
    first = made.due
    assert first is not None
    eventually(lambda: site.now() > first.timestamp() + 2, what="some instants")
    expiry = site.expiry()
    expiry.wait_for(r"missed \d+ occurrences")
    run = site.wait_run("r")
    assert run["request"]["expiry_missed"] >= 6
    assert (due_of(run) - first) / timedelta(seconds=0.3) == run["request"]["expiry_missed"]
    assert made.cancel() is True

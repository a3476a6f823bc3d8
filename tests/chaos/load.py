"""The load: one process of users, who schedule, cancel, move and replace timers, and note what they are told.

What a call said becomes a promise (see `ledger`), written to the calm Redis. The process is told by
the environment (CHAOS_LOAD, JSON) what to do; the Celery app comes from `app`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import redis
from celery import Celery, group

from celery_redis_expiry import (
    StoreFull,
    StoreUnavailable,
    cancel,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from tests.chaos import app as chaos_app
from tests.chaos.ledger import Promise

VARIABLE = "CHAOS_LOAD"
PROMISES, ERRORS, BREACHES, READY, GO = "promises:", "errors:", "breaches", "ready", "go"

#: How many timers `schedule_many_on_expiry` is given at once: one round trip, so an error concerns them all.
BULK = 50
#: How many threads make single calls: one that waits for a Redis that is away must not hold up the others.
SINGLES = 4
#: What a user does with a timer, and how often.
USES = {"leave": 40, "at": 10, "name": 10, "cancel": 25, "move": 10, "replace": 10, "group": 5}
#: What users with a wrong clock don't do: give a point in time that they read off it.
NEEDS_A_CLOCK = {"at"}


@dataclass
class Task:
    """What one process of the load is to do.

    Attributes:
        side: `ours`, or `peer` for plain `apply_async(countdown=…)`.
        timers: how many.
        seconds: over which time they are scheduled.
        delay: the longest delay.
        bulk: which share goes through `schedule_many_on_expiry`.
    """

    name: str
    side: str
    seed: int
    timers: int
    seconds: float
    delay: float
    bulk: float
    wrong_clock: bool
    ledger: str


def now() -> float:
    """The machine's clock, wrong though this process's own may be."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Load:
    def __init__(self, task: Task, app: Celery) -> None:
        self.task = task
        self.app = app
        self.calm = redis.Redis.from_url(task.ledger)
        self.errors: Counter[str] = Counter()
        self.record: Any = app.tasks["chaos.record"]

    def run(self) -> None:
        self.calm.rpush(READY, self.task.name)
        while not self.calm.exists(GO):
            time.sleep(0.02)
        in_bulk = round(self.task.timers * self.task.bulk)
        threads = []
        if self.task.side == "ours":
            threads.append(threading.Thread(target=self._in_bulk, args=(in_bulk,)))
        else:
            in_bulk = 0
        rest = self.task.timers - in_bulk
        user = User if self.task.side == "ours" else PeerUser
        for number in range(SINGLES):
            share = rest // SINGLES + (number < rest % SINGLES)
            threads.append(threading.Thread(target=user(self, number, share).run))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error, count in self.errors.items():
            self.calm.hincrby(ERRORS + self.task.side, error, count)

    def promise(self, *promises: Promise) -> None:
        self.calm.rpush(PROMISES + self.task.side, *(json.dumps(asdict(promise)) for promise in promises))

    def failed(self, doing: str, exc: Exception) -> str:
        """Note an error; answers the fate of a timer whose scheduling it ended."""
        self.errors[f"{type(exc).__name__}: {str(exc)[:80]}"] += 1
        if self.task.side == "ours" and not isinstance(exc, StoreUnavailable):
            self.calm.rpush(BREACHES, f"{doing} raised {type(exc).__name__}: {exc}")
        return "refused" if isinstance(exc, StoreFull) else "uncertain"

    def _in_bulk(self, count: int) -> None:
        dice = random.Random(f"{self.task.seed} {self.task.name} bulk")
        began = now()
        for first in range(0, count, BULK):
            wait = began + self.task.seconds * first / count - now()
            time.sleep(max(0.0, wait))
            size = min(BULK, count - first)
            timers = [
                (new_id(dice), f"{self.task.name}-bulk-{first + n}", self._delay(dice)) for n in range(size)
            ]
            called = now()
            fate = "scheduled"
            try:
                summary = schedule_many_on_expiry(
                    (self.record.s(label).set(task_id=id), delay) for id, label, delay in timers
                )
                if summary.errors:
                    fate = self.failed("schedule_many_on_expiry", summary.errors[0].error)
            except Exception as exc:
                fate = self.failed("schedule_many_on_expiry", exc)
            returned = now()
            self.promise(
                *(
                    promised(Promise(id, label, fate, called + delay, returned + delay))
                    for id, label, delay in timers
                )
            )

    def _delay(self, dice: random.Random) -> float:
        return dice.uniform(0, self.task.delay)


class User:
    """One thread of single calls: a heap of what is to be done when."""

    def __init__(self, load: Load, number: int, timers: int) -> None:
        self.load = load
        self.task = load.task
        self.dice = random.Random(f"{load.task.seed} {load.task.name} {number}")
        self.label = f"{load.task.name}-{number}"
        self.timers = timers
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    def run(self) -> None:
        began = now()
        for number in range(self.timers):
            at = began + self.task.seconds * number / max(1, self.timers)
            self._plan(at, lambda number=number: self.use(number))  # type: ignore[misc]
        while self._agenda:
            at, _, do = heapq.heappop(self._agenda)
            time.sleep(max(0.0, at - now()))
            do()

    def _plan(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), do))

    def use(self, number: int) -> None:
        """Schedule a timer, and plan what is done with it later."""
        uses = {use: n for use, n in USES.items() if not (self.task.wrong_clock and use in NEEDS_A_CLOCK)}
        [use] = self.dice.choices(list(uses), list(uses.values()))
        label = f"{self.label}-{use}-{number}"
        delay = self.load._delay(self.dice)
        if use == "group":
            self._group(label, delay)
            return
        name = label if use in ("name", "replace") else None
        promise = self.schedule(label, delay, name=name, at=use == "at")
        later = {"cancel": self.cancel, "move": self.move, "replace": self.replace}.get(use)
        if later is None or promise.fate == "refused":
            self.load.promise(promised(promise))
        else:
            # half of them at any time, half of them just when it fires
            close = self.dice.random() < 0.5
            when = delay + self.dice.uniform(-0.1, 0.2) if close else self.dice.uniform(0, 0.9 * delay)
            self._plan(now() + when, lambda: later(promise))

    def schedule(self, label: str, delay: float, *, name: str | None = None, at: bool = False) -> Promise:
        id = new_id(self.dice)
        signature = self.load.record.s(label).set(task_id=id)
        called = now()
        when: dict[str, Any] = {"seconds": delay}
        if at:
            when = {"at": datetime.fromtimestamp(called + delay, timezone.utc)}
        fate = "scheduled"
        try:
            schedule_on_expiry(signature, **when, key=name)
        except Exception as exc:
            fate = self.load.failed("schedule_on_expiry", exc)
        returned = now()
        due = max(returned, called + delay) if at else returned + delay
        return Promise(id, label, fate, called + delay, due)

    def _group(self, label: str, delay: float) -> None:
        members = [(new_id(self.dice), f"{label}-{n}") for n in range(3)]
        canvas = group(self.load.record.s(label).set(task_id=id) for id, label in members)
        called = now()
        fate = "scheduled"
        try:
            schedule_on_expiry(canvas, seconds=delay)
        except Exception as exc:
            fate = self.load.failed("schedule_on_expiry", exc)
        returned = now()
        for id, member in members:
            self.load.promise(promised(Promise(id, member, fate, called + delay, returned + delay)))

    def cancel(self, promise: Promise) -> None:
        promised(promise)
        try:
            if cancel(promise.id, app=self.load.app):
                promise.fate, promise.least, promise.most = "cancelled", 0, 0
        except Exception as exc:
            self.load.failed("cancel", exc)
            promise.fate, promise.least = "uncertain", 0
        self.load.promise(promise)

    def move(self, promise: Promise) -> None:
        """Give it another due time. One that was being published runs now and then."""
        promised(promise)
        delay = self.load._delay(self.dice)
        called = now()
        moved: bool | None = None
        try:
            moved = reschedule(promise.id, seconds=delay, app=self.load.app)
        except Exception as exc:
            self.load.failed("reschedule", exc)
        returned = now()
        if moved is not False:
            # one that was due by then may have been on its way
            again = returned >= promise.earliest
            promise.most = 2 if again else 1
            if moved:
                promise.least, promise.fate = 1, "rescheduled"
            if moved and not again:
                promise.earliest, promise.due = called + delay, returned + delay
            else:
                promise.earliest = min(promise.earliest, called + delay)
                promise.due = max(promise.due, returned + delay)
        self.load.promise(promise)

    def replace(self, old: Promise) -> None:
        """Another timer under the name of the old one. An old one that was being published runs as well."""
        promised(old)
        new = promised(self.schedule(old.label + "-new", self.load._delay(self.dice), name=old.label))
        if new.fate == "scheduled":
            old.fate, old.least, old.most = "replaced", 0, int(now() >= old.earliest)
        elif new.fate == "uncertain":
            if old.least:
                new.instead_of = old.id
            old.fate, old.least = "uncertain", 0
        self.load.promise(old, new)


class PeerUser(User):
    """The same for Celery's own way."""

    def use(self, number: int) -> None:
        label = f"{self.label}-{number}"
        delay = self.load._delay(self.dice)
        id = new_id(self.dice)
        called = now()
        fate = "scheduled"
        try:
            self.load.record.apply_async((label,), task_id=id, countdown=delay)
        except Exception as exc:
            fate = self.load.failed("apply_async", exc)
        self.load.promise(promised(Promise(id, label, fate, called + delay, now() + delay)))


def promised(promise: Promise) -> Promise:
    """How many runs the fate that scheduling had allows."""
    promise.least = int(promise.fate == "scheduled")
    promise.most = int(promise.fate != "refused")
    return promise


def new_id(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


if __name__ == "__main__":
    Load(Task(**json.loads(os.environ[VARIABLE])), chaos_app.app).run()
    sys.exit(0)

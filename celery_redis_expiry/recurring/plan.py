"""What is kept of a recurring timer beside its message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_redis_expiry.recurring.instants import Due


@dataclass(frozen=True)
class Plan:
    """What stays the same from occurrence to occurrence.

    Attributes:
        schedule: see `schedules.described`.
        bound: ms after which an occurrence fires although the task of the one before was not seen to finish;
            None where it may overlap.
        owner: who keeps it: `beat` for `celery expiry sync-beat`, "" for users.
        print: what an owner tells by whether the timer is as it should be.
    """

    schedule: Mapping[str, Any]
    bound: int | None = None
    owner: str = ""
    print: str = ""

    def encode(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "schedule": dict(self.schedule),
            "bound": self.bound,
            **({"owner": self.owner, "print": self.print} if self.owner else {}),
        }

    @classmethod
    def decode(cls, told: Mapping[str, Any]) -> Plan:
        """Raises LookupError, TypeError or ValueError for what `encode` did not write."""
        schedule, bound = told["schedule"], told["bound"]
        if not isinstance(schedule, Mapping) or not (bound is None or type(bound) is int):
            raise ValueError("its schedule is damaged")
        return cls(dict(schedule), bound, str(told.get("owner", "")), str(told.get("print", "")))


@dataclass(frozen=True)
class State:
    """What each occurrence changes.

    Attributes:
        planned: the instant that the timer is armed for, ms since the epoch.
        last: that of the last occurrence, None before the first.
        last_id: the task id of that.
        fired: how many occurrences there were.
        missed: how many instants passed while no expiry worker ran.
        skipped: how many came while the task of the one before still waited or ran.
    """

    planned: int
    last: int | None = None
    last_id: str = ""
    fired: int = 0
    missed: int = 0
    skipped: int = 0

    def encode(self) -> bytes:
        """JSON without a line's end."""
        values = [self.planned, self.last, self.last_id, self.fired, self.missed, self.skipped]
        return json.dumps(values).encode()

    @classmethod
    def decode(cls, raw: bytes) -> State:
        """Raises TypeError or ValueError for what `encode` did not write."""
        values = json.loads(raw)
        if not isinstance(values, list) or [type(each) for each in values[3:]] != [int] * 3:
            raise ValueError("what it knows of its occurrences is damaged")
        planned, last, last_id, *counts = values
        return cls(int(planned), None if last is None else int(last), str(last_id), *counts)

    def after(self, due: Due, id: str) -> State:
        """Once the occurrence with this task id has fired."""
        return replace(
            self,
            planned=due.next,
            last=due.instant,
            last_id=id,
            fired=self.fired + 1,
            missed=self.missed + due.missed,
        )

    def without(self, due: Due) -> State:
        """Once the occurrence was skipped."""
        return replace(self, planned=due.next, missed=self.missed + due.missed, skipped=self.skipped + 1)


@dataclass(frozen=True)
class Recurring:
    """What is kept of a recurring timer beside its message."""

    plan: Plan
    state: State

"""The ledger: what each call promised of its timer, what ran, and what the two together mean.

A timer that ran twice is explained only where its message was seen to go to the broker twice, and a fault
that leaves the outcome of a publish unknown lay between the two. All else that differs from a promise breaks
it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

#: Seconds: a due time counts whole milliseconds, and a key lives until now > due.
EARLY = 0.005
#: Seconds before a fault was noted to have begun in which it may have worked already.
SLACK = 0.5
#: Seconds after a fault in which lateness is still put down to it.
AFTERMATH = 10.0


@dataclass
class Promise:
    """What the calls that concern one task id said.

    Attributes:
        id: the task id; the label says the same to people.
        fate: scheduled, uncertain, refused, cancelled, replaced, or rescheduled.
        earliest: no run before it (seconds since the epoch, the machine's clock).
        due: when it was due at the latest; lateness counts from it.
        least, most: how many runs that allows, faults aside.
        instead_of: the id of a timer that this one may have replaced, or not: of the two at least one runs.
    """

    id: str
    label: str
    fate: str
    earliest: float
    due: float
    least: int = 1
    most: int = 1
    instead_of: str = ""


@dataclass
class Happening:
    """A fault as it was: from its begin until everything is as before."""

    name: str
    target: str
    begin: float
    end: float
    doubles: bool


@dataclass
class Run:
    at: float
    id: str
    label: str


@dataclass
class Lateness:
    """Percentiles in seconds."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Lateness:
        ordered = sorted(values)
        if not ordered:
            return cls()
        last = len(ordered) - 1
        return cls(len(ordered), ordered[last // 2], ordered[int(0.99 * last)], ordered[-1])


@dataclass
class Ledger:
    """The verdict on one side: ours, or the peer's.

    Attributes:
        fates: how many timers, by what the calls said of them.
        executed: how many of them ran.
        lost: promised, and never ran.
        doubled: ran more often than promised, by the fault that explains it.
        unexplained: the same, where none does.
        forbidden: ran although cancelled, replaced or refused.
        early: ran before its time.
        unknown: ran, and nobody scheduled it.
        breaches: what else was seen that must not be.
    """

    fates: dict[str, int] = field(default_factory=dict)
    executed: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: dict[str, int] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    late: Lateness = field(default_factory=Lateness)
    late_in_faults: Lateness = field(default_factory=Lateness)
    late_outside: Lateness = field(default_factory=Lateness)
    enqueued_late: Lateness = field(default_factory=Lateness)

    @property
    def broken(self) -> list[str]:
        """The promises that were broken, a line each; empty is what a run is for."""
        told = {
            "lost": self.lost,
            "doubled without an explanation": self.unexplained,
            "ran though cancelled, replaced or refused": self.forbidden,
            "ran early": self.early,
            "ran though never scheduled": self.unknown,
        }
        lines = [f"{len(which)} {what}: {', '.join(which[:5])}" for what, which in told.items() if which]
        return lines + self.breaches

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"broken": self.broken}


def judge(
    promises: Sequence[Promise],
    runs: Sequence[Run],
    faults: Sequence[Happening] = (),
    published: Mapping[str, Sequence[float]] | None = None,
    breaches: Sequence[str] = (),
) -> Ledger:
    """Compare what was promised with what ran.

    Arguments:
        published: when the message of each task id went to the broker; None where nobody looked.
    """
    ledger = Ledger(fates=dict(Counter(promise.fate for promise in promises)), breaches=list(breaches))
    ran: dict[str, list[float]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.at):
        ran[run.id].append(run.at)
    labels = {run.id: run.label for run in runs}
    known = {promise.id for promise in promises}
    ledger.unknown = [labels[id] for id in ran if id not in known]
    windows = _Windows(faults)
    late: list[float] = []
    inside: list[float] = []
    outside: list[float] = []
    enqueued: list[float] = []
    for promise in promises:
        times = ran.get(promise.id, [])
        ledger.executed += bool(times)
        neither = promise.instead_of and not times and not ran.get(promise.instead_of)
        if len(times) < promise.least or neither:
            ledger.lost.append(promise.label)
        if times and promise.most == 0:
            ledger.forbidden.append(f"{promise.label} ({promise.fate})")
        elif len(times) > promise.most:
            seen = None if published is None else published.get(promise.id, ())
            cause = _cause(promise, times, faults, seen)
            if cause is None:
                ledger.unexplained.append(_told(promise, times, seen))
            else:
                ledger.doubled[cause] = ledger.doubled.get(cause, 0) + len(times) - promise.most
        if times and times[0] < promise.earliest - EARLY:
            ledger.early.append(f"{promise.label} by {promise.earliest - times[0]:.3f} s")
        if times and promise.fate == "scheduled":
            lateness = max(0.0, times[0] - promise.due)
            late.append(lateness)
            (inside if windows.touch(promise.due, times[0]) else outside).append(lateness)
            if published and promise.id in published:
                enqueued.append(max(0.0, published[promise.id][0] - promise.due))
    ledger.late, ledger.enqueued_late = Lateness.of(late), Lateness.of(enqueued)
    ledger.late_in_faults, ledger.late_outside = Lateness.of(inside), Lateness.of(outside)
    return ledger


def _cause(
    promise: Promise, times: list[float], faults: Sequence[Happening], published: Sequence[float] | None
) -> str | None:
    """The fault that may have left the outcome of a publish unknown; None where a run too many has none."""
    if published is None:
        spans = list(zip([promise.earliest, *times[1:]], times[1:], strict=False))
    else:
        if len(published) < len(times):
            return None  # not enqueued as often as it ran
        spans = list(pairwise(published))
    names: list[str] = []
    promised = promise.most - 1  # publishings that no fault need explain
    for first, second in spans:
        possible = [
            fault
            for fault in faults
            if fault.doubles and fault.begin - SLACK <= second and fault.end + SLACK >= first
        ]
        if possible:
            names.append(min(possible, key=lambda fault: (_apart(first, fault), _remoteness(fault))).name)
        else:
            promised -= 1
    return names[0] if names and promised >= 0 else None


def _told(promise: Promise, times: Sequence[float], published: Sequence[float] | None) -> str:
    def after(moments: Sequence[float]) -> str:
        return ", ".join(f"{moment - promise.due:+.3f}" for moment in moments) or "never"

    return (
        f"{promise.label} ({promise.fate}, {promise.id}) ran {after(times)} s from its due time, "
        f"promised at most {promise.most}, published {after(published or ())}"
    )


def _apart(moment: float, fault: Happening) -> float:
    """Seconds between a moment and a fault."""
    return max(0.0, fault.begin - SLACK - moment, moment - fault.end - SLACK)


def _remoteness(fault: Happening) -> int:
    """How far from the publishing: its own connection, who does it, then the store that is to be told."""
    return next((rank for rank, word in enumerate(("broker", "worker")) if word in fault.target), 2)


class _Windows:
    """The times in which some fault, or its aftermath, lasted: merged, so that asking is quick."""

    def __init__(self, faults: Sequence[Happening]) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        for fault in sorted(faults, key=lambda fault: fault.begin):
            end = fault.end + AFTERMATH
            if self._ends and fault.begin <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(fault.begin)
                self._ends.append(end)

    def touch(self, first: float, last: float) -> bool:
        at = bisect_left(self._ends, first)
        return at < len(self._begins) and self._begins[at] <= last

"""What the doctor found: a finding a check, and all of them as one report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

OK, WARN, FAIL, UNKNOWN = STATUSES = ("ok", "warn", "fail", "unknown")


@dataclass(frozen=True)
class Finding:
    """What a check answers.

    Attributes:
        status: `ok`; `warn` (works, but not as promised, or not for long); `fail` (timers are lost, late or
            refused); `unknown` (it could not be looked at).
        text: what is so.
        remedy: what to do; empty where nothing is to be done.
        data: the same for programs, JSON-able.
    """

    status: str
    text: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A finding with the name of its check, and of the server where it concerns one."""

    name: str
    finding: Finding
    server: str = ""

    def as_dict(self) -> dict[str, Any]:
        finding = self.finding
        return {
            "check": self.name,
            "status": finding.status,
            "finding": finding.text,
            "remedy": finding.remedy,
            "data": {**({"server": self.server} if self.server else {}), **finding.data},
        }


@dataclass(frozen=True)
class Report:
    """All checks, in the order in which they are shown."""

    checks: list[Check]

    def count(self, status: str) -> int:
        return sum(check.finding.status == status for check in self.checks)

    def ok(self, *, strict: bool = False) -> bool:
        """Whether nothing fails; with `strict`, whether everything is known to be ok."""
        return self.count(OK) == len(self.checks) if strict else not self.count(FAIL)


def ok(text: str, **data: Any) -> Finding:
    return Finding(OK, text, "", data)


def warn(text: str, remedy: str, **data: Any) -> Finding:
    return Finding(WARN, text, remedy, data)


def fail(text: str, remedy: str, **data: Any) -> Finding:
    return Finding(FAIL, text, remedy, data)


def unknown(text: str, remedy: str, **data: Any) -> Finding:
    return Finding(UNKNOWN, text, remedy, data)


def told(exc: BaseException) -> str:
    """An error in a line. What a ValueError quotes may be a part of a URL, and so of its password."""
    text = re.sub(r"'.*'", "'...'", str(exc)) if isinstance(exc, ValueError) else str(exc)
    return f"{type(exc).__name__}: {text}"

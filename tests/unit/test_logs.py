"""Log lines: each from INFO on has its structured fields, and docs/monitoring.md knows them all."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celery_redis_expiry
from celery_redis_expiry.timer import Claimed, Stored
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.publishing import Parcel
from celery_redis_expiry.worker.reporting.figures import Figures
from celery_redis_expiry.worker.settler import Settler, _told

PACKAGE = Path(celery_redis_expiry.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"


def lines() -> Iterator[tuple[str, ast.Call, str]]:
    """Every log line of the package: where, its call, its level; `log` is a warning the first time."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{file.relative_to(PACKAGE)}:{node.lineno}"
            func = node.func
            if isinstance(func, ast.Attribute) and getattr(func.value, "id", "") == "logger":
                if hasattr(logging, func.attr.upper()) or func.attr == "exception":
                    yield where, node, "error" if func.attr == "exception" else func.attr
            elif isinstance(func, ast.Name) and func.id == "log":
                yield where, node, "warning"


def fields(call: ast.Call) -> ast.Call | None:
    """The `log_fields(…)` that a log line gives as extra."""
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Call):
            assert keyword.value.func.id == "log_fields"  # type: ignore[attr-defined]
            return keyword.value
    return None


def table(heading: str) -> dict[str, str]:
    """A table of the page: what stands in code in its first column, and the rest of the row."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| (.*) \|$", section, re.MULTILINE)
    return {name: rest for *names, rest in rows for name in names if name}


def test_every_line_from_info_on_has_its_fields() -> None:
    found = list(lines())
    assert len(found) > 40
    bare = [where for where, call, level in found if level != "debug" and fields(call) is None]
    assert bare == []


def test_every_line_says_whose_it_is() -> None:
    starts = {where: call.args[0].value for where, call, _ in lines()}  # type: ignore[attr-defined]
    assert [where for where, text in starts.items() if not re.match(r"expiry( \w+| %s)?: ", text)] == []


def test_events_and_fields_are_documented() -> None:
    events: dict[str, set[str]] = {}
    names = {"expiry_event", *(f"expiry_{name}" for name in _told(PARCEL))}
    for _, call, level in lines():
        given = fields(call)
        if given is not None:
            events.setdefault(given.args[0].value, set()).add(level)  # type: ignore[attr-defined]
            names |= {f"expiry_{keyword.arg}" for keyword in given.keywords if keyword.arg}
    assert set(table("Logs")) == {*events, *names}
    for event, levels in events.items():
        told = table("Logs")[event].partition(" | ")[0].split(", ")
        assert set(told) == levels, event


STORED = Stored("id-1", {"kind": "message", "task": "shop.remind"})
CLAIM = Claimed("g:cart:\n7", "cart:\n7", 0, 0, STORED.encode(), "t", "id-1", shard=3)
PARCEL = Parcel(STORED, CLAIM)


class FakeStore:
    def ack(self, token: str, claims: list[Claimed]) -> int:
        return len(claims)

    def release(self, token: str, claims: list[Claimed], **how: Any) -> int:
        return len(claims)

    def bury(self, claim: Claimed, reason: str, origin: str) -> bool:
        return True

    @property
    def shards(self) -> list[None]:
        return [None] * 8


class FakeBounds:
    def enforce(self, shard: Any) -> None:
        pass


def settled(outcome: str, reason: str = "") -> None:
    store: Any = FakeStore()
    bounds: Any = FakeBounds()
    PARCEL.settle(outcome, reason)
    Settler(store, Lanes(8), "worker", bounds, Figures()).settle("t", [PARCEL])


def test_a_dead_letter_is_an_error_that_machines_can_read(caplog: pytest.LogCaptureFixture) -> None:
    settled("refused", "NO_ROUTE\x1b")
    [record] = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert {name: value for name, value in record.items() if name.startswith("expiry_")} == {
        "expiry_event": "dead_letter",
        "expiry_timer": "cart:\\n7",
        "expiry_task_id": "id-1",
        "expiry_shard": 3,
        "expiry_reason": "NO_ROUTE\\x1b",
    }


def test_what_fires_is_told_at_debug_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        settled("published")
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG):
        settled("published")
    [record] = caplog.records
    assert re.match(r"expiry: fired timer cart:\\n7, \d+ ms late", record.getMessage())
    told = vars(record)
    assert (told["expiry_event"], told["expiry_task"], told["expiry_shard"]) == ("fired", "shop.remind", 3)
    assert told["expiry_lateness"] > 0

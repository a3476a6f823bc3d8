"""The harness of the benchmarks measures: tiny scenarios. Figures are not judged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.scenarios import event_loop, lateness
from tests.conftest import missing
from tests.servers.redis import FETCH_HINT, binaries


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    if not binaries():
        missing(f"no redis-server: {FETCH_HINT}")
    monkeypatch.setattr(lateness, "QUICK", (lateness.Level(20),))
    monkeypatch.setattr(lateness, "QUICK_TIMES", {"seconds": 0.3, "lead": 1.0, "patience": 20.0})
    monkeypatch.setitem(event_loop.SIZES, True, (20, 10, 1))


def measure(folder: Path, scenario: str, peers: str) -> list[dict[str, Any]]:
    options = ["--quick", "--only", scenario, "--peers", peers, "--results", str(folder)]
    assert command.measure(command.arguments().parse_args(options)) == []
    rows: list[dict[str, Any]] = json.loads((folder / f"{scenario}.json").read_text())["rows"]
    return rows


@pytest.mark.usefixtures("tiny")
def test_one_scenario_from_the_servers_to_the_report(tmp_path: Path) -> None:
    rows = {row["who"]: row for row in measure(tmp_path, "lateness", "bare-tuned")}
    assert list(rows) == ["ours-queue", "ours-runs", "bare-tuned"]
    for row in rows.values():
        assert not row["note"]
        [measured] = row["rounds"]
        assert measured["due"] == measured["arrived"] == 30
        assert measured["twice"] == 0
        assert measured["waiting"] == 20
        # somebody who fires early measures something else than lateness
        assert 0 < measured["p50"] <= measured["p99"] <= measured["max"]

    text = report.write(tmp_path)
    assert "| 20 waiting | this package: in the broker's queue |" in text
    assert "## Goals" in text
    assert (tmp_path / "lateness.png").exists() == bool(importlib.util.find_spec("matplotlib"))


@pytest.mark.usefixtures("tiny")
def test_what_holds_an_event_loop_up_is_seen(tmp_path: Path) -> None:
    rows = measure(tmp_path, "event_loop", "none")
    assert len(rows) == 9
    for row in rows:
        [measured] = row["rounds"]
        assert 0 < measured["step_p50"] <= measured["step_p99"] <= measured["step_max"]
        assert measured["cpu_max"] > 0
    far = {row["who"]: row["rounds"][0] for row in rows if "away" in row["case"]}
    assert far["blocking"]["requests"] == 10
    # a request of its is a step that waits for Redis
    assert far["blocking"]["step_max"] >= event_loop.FAR * 1000
    assert "## Event loop" in report.write(tmp_path)

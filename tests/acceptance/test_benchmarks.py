"""The harness of the benchmarks measures: one tiny scenario, us and one peer. Figures are not judged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.scenarios import lateness
from tests.conftest import missing
from tests.servers.redis import FETCH_HINT, binaries


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    if not binaries():
        missing(f"no redis-server: {FETCH_HINT}")
    monkeypatch.setattr(lateness, "QUICK", (lateness.Level(20),))
    monkeypatch.setattr(lateness, "QUICK_TIMES", {"seconds": 0.3, "lead": 1.0, "patience": 20.0})


def measure(folder: Path, peers: str) -> dict[str, Any]:
    options = ["--quick", "--only", "lateness", "--peers", peers, "--results", str(folder)]
    command.measure(command.arguments().parse_args(options))
    rows = json.loads((folder / "lateness.json").read_text())["rows"]
    return {row["who"]: row for row in rows}


@pytest.mark.usefixtures("tiny")
def test_one_scenario_from_the_servers_to_the_report(tmp_path: Path) -> None:
    rows = measure(tmp_path, "bare-tuned")
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

"""What was measured: one JSON file a scenario. Runs of parts are merged, row by row."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Row
from benchmarks.figures import middle
from benchmarks.processes import available, cores, memory

FOLDER = Path(__file__).parent / "results"

Result = dict[str, Any]
Results = dict[str, Result]


def save(folder: Path, scenario: str, bench: Bench, rows: Iterable[Row]) -> None:
    """Write a scenario's file; rows of an earlier run stay where this one did not measure them.

    Quick rows and full ones are never mixed: a run of the other kind begins anew.
    """
    path = folder / f"{scenario}.json"
    fresh = {(row["case"], row["who"]): row for row in rows}
    old = json.loads(path.read_text()) if path.exists() else None
    if old and old["quick"] == bench.quick:
        kept = {(row["case"], row["who"]): row for row in old["rows"]}
        fresh = {**kept, **fresh}
    result = {
        **{"scenario": scenario, "quick": bench.quick, "machine": machine(), "versions": versions(bench)},
        "rows": list(fresh.values()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def load(folder: Path) -> Results:
    """All that is there, by scenario."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def find(results: Results, scenario: str, case: str, who: str) -> Row | None:
    rows = results.get(scenario, {}).get("rows", [])
    return next((row for row in rows if row["case"] == case and row["who"] == who), None)


def figure(results: Results, scenario: str, case: str, who: str, name: str) -> float | None:
    """The median of one figure; None where it was not measured."""
    row = find(results, scenario, case, who)
    return middle(row, name) if row else None


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores(),
        "memory": memory(),
        "available": available(),
    }


def versions(bench: Bench) -> dict[str, str]:
    names = ("celery-redis-expiry", "celery", "kombu", "redis", "amqp")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "redis-server": bench.version,
        **{peer.name: peer.version() for peer in bench.peers.values() if peer.environment},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

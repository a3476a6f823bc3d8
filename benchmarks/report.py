"""The report: RESULTS.md, from all JSON files of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import goals, plots, scenarios
from benchmarks.figures import middle, number
from benchmarks.results import Result, Results, load

HEAD = """# Results

Made by `make bench`; how it measures: [benchmarks](../README.md). Absolute times are this machine's; ratios
travel better.
"""


def write(folder: Path) -> str:
    """RESULTS.md and the pictures, into the folder; answers the text."""
    results = load(folder)
    pictures = plots.draw(results, folder)
    parts = [HEAD, conditions(results), goals.section(results)]
    parts += [
        section(name, results[name], pictures.get(name, [])) for name in scenarios.ALL if name in results
    ]
    text = "\n\n".join(part.strip() for part in parts if part) + "\n"
    (folder / "RESULTS.md").write_text(text)
    return text


def conditions(results: Results) -> str:
    """The machine, the versions, when."""
    if not results:
        return "Nothing has been measured."
    latest = max(results.values(), key=lambda result: max((row["run"] for row in result["rows"]), default=""))
    machine, versions = latest["machine"], latest["versions"]
    runs = sorted({row["run"] for result in results.values() for row in result["rows"]})
    memory = f"{machine['memory'] / 2**30:.0f} GiB"
    lines = [
        f"- {machine['processor']}, {machine['cores']} cores, {memory}, {machine['system']}",
        "- " + ", ".join(f"{name} {one}" for name, one in versions.items()),
        f"- measured {', '.join(runs)}"
        + (" (`QUICK=1`: small numbers, for a look)" if _quick(results) else ""),
    ]
    return "\n".join(lines)


def _quick(results: Results) -> bool:
    return any(result["quick"] for result in results.values())


def section(name: str, result: Result, pictures: Sequence[str]) -> str:
    """One scenario: heading, meaning, pictures, table, and who was left out and why."""
    scenario = scenarios.ALL[name]
    measured = [row for row in result["rows"] if row["rounds"]]
    absent = [row for row in result["rows"] if row["note"]]
    rounds = max((len(row["rounds"]) for row in measured), default=0)
    parts = [f"## {scenario.TITLE}", f"{scenario.INTRO} {_medians(rounds)}".strip()]
    parts += [f"![{title}]({file})" for file, title in pictures]
    parts.append(table(scenario, measured))
    if absent:
        parts.append("\n".join(f"- {row['title']}, {row['case']}: {row['note']}" for row in absent))
    return "\n\n".join(parts)


def _medians(rounds: int) -> str:
    return f"Medians of {rounds} rounds." if rounds > 1 else "One round."


def table(scenario: Any, rows: Sequence[dict[str, Any]]) -> str:
    columns = {
        name: title
        for name, title in scenario.COLUMNS.items()
        if any(middle(row, name) is not None for row in rows)
    }
    head = ["case", "who", *columns.values()]
    if scenario.RATIO:
        head.append(scenario.RATIO[2])
    lines = [head, ["---"] * len(head)]
    last = None
    for row in sorted(rows, key=lambda row: [each["case"] for each in rows].index(row["case"])):
        cells = ["" if row["case"] == last else row["case"], row["title"]]
        cells += [number(middle(row, name)) for name in columns]
        if scenario.RATIO:
            cells.append(_ratio(scenario.RATIO, row, rows))
        lines.append(cells)
        last = row["case"]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(ratio: tuple[str, str, str], row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    name, base, _ = ratio
    below = next((each for each in rows if each["who"] == base and each["case"] == row["case"]), None)
    one, other = middle(row, name), middle(below, name) if below else None
    return number(one / other) if one is not None and other else "-"

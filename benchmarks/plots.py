"""The pictures of the report: few, and each says one thing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drawing import COLOURS, INK, bars, give_title, label_ends, name_bars, new_axes, plain, short
from benchmarks.figures import middle, number
from benchmarks.results import Results

Pictures = dict[str, list[tuple[str, str]]]


def draw(results: Results, folder: Path) -> Pictures:
    """Draw what was measured into the folder.

    Returns:
        By scenario: files, and what they show. None without matplotlib, which comes with the extra `bench`.
    """
    try:
        import matplotlib
    except ImportError:
        return {}
    matplotlib.use("agg")
    pictures: Pictures = {}
    for scenario, name, title, paint in PICTURES:
        rows = [row for row in results.get(scenario, {}).get("rows", []) if row["rounds"]]
        figure = paint(rows) if rows else None
        if figure is None:
            continue
        figure.savefig(
            folder / f"{name}.png", dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15
        )
        pictures.setdefault(scenario, []).append((f"{name}.png", title))
    return pictures


def lateness(rows: list[dict[str, Any]]) -> Any:
    """p99 of each, by how many really waited: thick for ours, thin for the others."""
    series: dict[str, list[tuple[float, float]]] = {}
    about = {row["who"]: row for row in rows}
    for row in rows:
        late = middle(row, "p99")
        if late is not None and row["case"].endswith("waiting") and row["who"] != "limit-ping":
            series.setdefault(row["who"], []).append((_place(middle(row, "waiting") or 0), late))
    if not series:
        return None
    figure, axes = new_axes(8.2, 5.6)
    ends = []
    for who, points in sorted(series.items(), key=lambda one: about[one[0]]["kind"] == "ours"):
        points.sort()
        ours, colour = about[who]["kind"] == "ours", COLOURS[about[who]["kind"]]
        style = {"linestyle": "--"} if who == "ours-runs" else {}
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", **style, **_weight(ours))
        ends.append((*points[-1], plain(about[who]["title"]).removeprefix("limit: "), colour, ours))
    axes.set_yscale("log")
    axes.set_xticks([_place(0), 4, 5, 6, 7], ["0", "10 k", "100 k", "1 M", "10 M"])
    axes.set_xlim(_place(0) - 0.2, max(4.2, *(x + 0.2 for x, *_ in ends)))
    axes.yaxis.set_major_formatter(lambda value, _: number(value) if value < 1 else f"{value:,.0f}")
    label_ends(axes, ends)
    axes.set_xlabel("waiting meanwhile")
    axes.set_ylabel("lateness p99, ms")
    give_title(
        axes,
        "How late a steady 100 a second are",
        "until the job runs; ours also until it is in the queue",
    )
    return figure


def _place(waiting: float) -> float:
    """On the axis of how many wait: logarithmic, with a place for none."""
    return math.log10(waiting) if waiting >= 1_000 else 2.8


def _weight(ours: bool) -> dict[str, float]:
    return {"linewidth": 2.4, "markersize": 5, "zorder": 3} if ours else {"linewidth": 1.1, "markersize": 3.5}


def burst(rows: list[dict[str, Any]]) -> Any:
    """Messages a second: bars on a log axis, longest first."""
    kept = []
    for row in rows:
        title = row["title"] if row["kind"] == "limit" or row["who"] not in ("ours", "loop") else ""
        kept.append((title or f"{row['title']}, {row['case']}", middle(row, "rate"), row["kind"]))
    return bars(
        kept,
        "messages a second",
        "Many due in one instant",
        "until the last is in the queue (ours) or has run",
    )


def memory(rows: list[dict[str, Any]]) -> Any:
    """Bytes one that waits takes: in Redis, and in the workers."""
    rows = sorted(rows, key=lambda row: _total(row))
    figure, axes = new_axes(8.2, 0.34 * len(rows) + 1.5)
    for place, row in enumerate(rows):
        redis, workers = middle(row, "redis") or 0, middle(row, "workers") or 0
        axes.barh(place, redis, color=COLOURS[row["kind"]], height=0.66)
        axes.barh(place, workers, left=redis, color=COLOURS[row["kind"]], alpha=0.35, height=0.66)
        text = f" {number(round(redis))}" + (
            f" + {number(round(workers))} in the workers" if workers > redis / 20 else ""
        )
        axes.text(redis + workers, place, text, va="center", fontsize=9, color=INK)
    name_bars(axes, [row["title"] for row in rows], [row["kind"] for row in rows])
    axes.set_xlim(0, 1.32 * max(map(_total, rows)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("bytes for each that waits")
    give_title(axes, "What one that waits costs", "solid: in Redis; pale: in the workers' memory")
    return figure


def growth(rows: list[dict[str, Any]]) -> Any:
    """Redis's time for one timer, by how many wait."""
    points = sorted((row["x"], middle(row, "schedule_us"), middle(row, "fire_us")) for row in rows)
    if len(points) < 2:
        return None
    figure, axes = new_axes(8.2, 4.2)
    axes.set_xscale("log")
    ends = []
    for column, label, style in ((1, "fire", "-"), (2, "schedule", "--")):
        line = [(point[0], point[3 - column]) for point in points]
        axes.plot(*zip(*line, strict=True), style, color=COLOURS["ours"], marker="o", **_weight(True))
        ends.append((*line[-1], label, COLOURS["ours"], True))
    axes.set_ylim(0, 1.25 * max(max(point[1:]) for point in points))
    label_ends(axes, ends)
    axes.set_xlabel("timers waiting")
    axes.set_ylabel("µs of Redis's time for one timer")
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    give_title(axes, "Redis's work for one timer", "all calls of our scripts, by INFO commandstats")
    return figure


PICTURES: tuple[tuple[str, str, str, Callable[[list[dict[str, Any]]], Any]], ...] = (
    ("lateness", "lateness", "Lateness by how many timers wait", lateness),
    ("burst", "burst", "A burst: messages a second", burst),
    ("memory", "memory", "Memory for each that waits", memory),
    ("growth", "growth", "Redis's time for one timer, by how many wait", growth),
)


def _total(row: dict[str, Any]) -> float:
    return (middle(row, "redis") or 0) + (middle(row, "workers") or 0)

"""How a picture is drawn: axes, bars with their names, names at the ends of lines."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.figures import number

#: Ours, a peer's, the limit's.
COLOURS = {"ours": "#c2410c", "peer": "#64748b", "limit": "#0f766e"}
INK, FAINT = "#1f2937", "#e5e7eb"


def bars(rows: list[tuple[str, float | None, str]], label: str, title: str, subtitle: str) -> Any:
    kept = sorted((row for row in rows if row[1]), key=lambda row: row[1] or 0)
    figure, axes = new_axes(8.2, 0.34 * len(kept) + 1.5)
    for place, (_, value, kind) in enumerate(kept):
        axes.barh(place, value, color=COLOURS[kind], height=0.66)
        axes.text(value, place, f" {number(value)}", va="center", fontsize=9, color=INK)
    name_bars(axes, [name for name, _, _ in kept], [kind for _, _, kind in kept])
    axes.set_xscale("log")
    axes.set_xlim(min(bar[1] or 1 for bar in kept) / 2, 3 * max(bar[1] or 1 for bar in kept))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel(label)
    give_title(axes, title, subtitle)
    return figure


def name_bars(axes: Any, names: list[str], kinds: list[str]) -> None:
    axes.set_yticks(range(len(names)), map(plain, names))
    axes.set_ylim(-0.7, len(names) - 0.3)
    for text, kind in zip(axes.get_yticklabels(), kinds, strict=True):
        text.set_color(COLOURS[kind])
        text.set_fontweight("bold" if kind == "ours" else "normal")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def new_axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def give_title(axes: Any, title: str, subtitle: str) -> None:
    above = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(title, (0, 1), (0, 25), fontsize=13, fontweight="bold", color=INK, **above)
    axes.annotate(subtitle, (0, 1), (0, 9), fontsize=9.5, color="#4b5563", **above)


def label_ends(axes: Any, ends: list[tuple[float, float, str, str, bool]]) -> None:
    """Names at the right edge, in the order of the lines' last points, kept apart."""
    low, high = (math.log10(y) if axes.get_yscale() == "log" else y for y in axes.get_ylim())
    apart = 12.5 / (axes.figure.get_figheight() * 72 * 0.8)
    ends = sorted(ends, key=lambda end: end[1])
    heights = [
        ((math.log10(y) if axes.get_yscale() == "log" else y) - low) / (high - low) for _, y, *_ in ends
    ]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + apart)
    # those that were pushed out at the top push down what is below them
    ceiling = 1.0
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - apart
    for (x, y, name, colour, bold), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="bold" if bold else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.5,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def plain(title: str) -> str:
    return title.replace("`", "")


def short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"

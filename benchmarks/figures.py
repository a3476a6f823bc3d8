"""Numbers: percentiles, medians over rounds, how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered), -int(-share * len(ordered) // 1)) - 1)]


def middle(row: Mapping[str, Any], name: str) -> float | None:
    """The median over a row's rounds; None where nothing was measured."""
    values = [each[name] for each in row["rounds"] if each.get(name) is not None]
    return median(values) if values else None


def number(value: float | None) -> str:
    """Three digits, more before the point where it is large."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def count(value: float) -> str:
    """How many: 10,000."""
    return f"{value:,.0f}"

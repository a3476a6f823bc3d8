"""What the runs say, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.celery_own.run import Run


def table(runs: Mapping[str, Run]) -> str:
    """A row for each class of tests: how many passed in each run.

    Arguments:
        runs: by their titles; the first is the one that the others are compared with.
    """
    first, *others = runs.values()
    groups = Counter(name.rpartition("::")[0] for name in first.outcomes)
    lines = [
        "| Celery's tests | tests | " + " | ".join(f"passed {title}" for title in runs) + " |",
        "| --- |" + " --- |" * (len(runs) + 1),
    ]
    for group, count in groups.items():
        passed = [_passed(run, group) for run in runs.values()]
        lines.append(_row(f"`{group.replace('.test_', '` `test_')}`", count, passed))
    lines.append(_row("**all**", groups.total(), [_passed(run) for run in runs.values()]))
    lines.append(_row("timers that fired", "", [run.fired for run in runs.values()]))
    for run in others:
        lines += ["", *_differences(first, run)]
    return "\n".join(lines)


def _row(*cells: object) -> str:
    *start, numbers = cells
    assert isinstance(numbers, list)
    return f"| {' | '.join(str(cell) for cell in [*start, *numbers])} |"


def _passed(run: Run, group: str | None = None) -> int:
    return sum(
        outcome == "passed"
        for name, outcome in run.outcomes.items()
        if group is None or name.rpartition("::")[0] == group
    )


def _differences(first: Run, other: Run) -> list[str]:
    was, now = first.outcomes, other.outcomes
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return [f"- `{name}`: {was.get(name)} → {now.get(name)}" for name in names] or ["No difference."]

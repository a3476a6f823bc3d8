"""Timers in words: as JSON tells them, and in the columns of a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import islice
from typing import Any

from celery_redis_expiry.timer import DeadLetter, Timer, shown

#: How many rows are looked at together for the width of columns.
ROWS = 100
COLOURS = {"claimed": "cyan", "parked": "yellow", "due": "red"}


def timer_told(timer: Timer) -> dict[str, Any]:
    """What JSON tells of a timer."""
    return {
        "id": timer.id,
        "name": timer.name,
        "state": timer.state,
        "due": timer.due.isoformat() if timer.due else None,
        "remaining": timer.remaining,
        "task": timer.task,
        "args": timer.args,
        "kwargs": timer.kwargs,
        "queue": timer.queue,
        "priority": timer.priority,
        "every": timer.every,
    }


def letter_told(letter: DeadLetter) -> dict[str, Any]:
    """What JSON tells of a dead letter."""
    return {
        "timer": letter.label,
        "id": letter.id,
        "state": "dead",
        "task": letter.task,
        "buried": letter.buried.isoformat(),
        "reason": letter.reason,
        "worker": letter.origin,
    }


def call(timer: Timer) -> str:
    """The arguments as they would be written in a call."""
    return shown(", ".join(part for part in (_bare(timer.args), timer.kwargs.strip("{}")) if part))


def _bare(args: str) -> str:
    return args[1:-1].rstrip(",") if args.startswith("(") and args.endswith(")") else args


def moment(when: datetime | None, zone: tzinfo) -> str:
    """In the zone of the app."""
    return f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S}" if when else "-"


def remaining(timer: Timer) -> str:
    """How long it has to wait, or why it does not."""
    if timer.state != "waiting" or timer.remaining is None:
        return timer.state
    return lasting(timer.remaining) if timer.remaining else "due"


def lasting(seconds: float) -> str:
    """A duration in its two largest units: `42s`, `5m 10s`, `3h 05m`, `12d 4h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s" if whole else f"{seconds:.1f}s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {whole:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24}h"


def lateness(seconds: float | None) -> str:
    """In ms where it is short, as it should be."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g}ms" if seconds < 1 else lasting(seconds)


def figure(value: Any) -> str:
    """A figure that a worker tells of itself."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int | float) else "-" if value is None else shown(str(value))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], style: Callable[..., str], colour: int = 0
) -> Iterator[str]:
    """The lines of a table, made while its rows come; cut at the edge of a terminal.

    Arguments:
        style: colours a text, as `CLIContext.style` does.
        colour: the column whose text may have one of `COLOURS`.
    """
    rows, widths, first = iter(rows), [len(head) for head in heads], True
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    while chunk := list(islice(rows, ROWS)):
        columns = zip(*chunk, strict=True)
        widths = [max(width, *map(len, column)) for width, column in zip(widths, columns, strict=True)]
        if first:
            yield style(_row(heads, widths)[:edge], bold=True)
            first = False
        for row in chunk:
            line = _row(row, widths)[:edge]
            word = row[colour]
            if word in COLOURS:
                line = line.replace(word, style(word, fg=COLOURS[word]), 1)
            yield line


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()

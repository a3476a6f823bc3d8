"""The screen of `celery expiry watch`, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from celery_redis_expiry.cli.texts import call, figure, lateness, moment, remaining
from celery_redis_expiry.cli.watching import MINUTES, View
from celery_redis_expiry.cli.workers import Answers
from celery_redis_expiry.store import Snapshot
from celery_redis_expiry.timer import shown

HEIGHT = 5
#: From empty to full; where the terminal has no such characters, letters do.
BLOCKS, LETTERS = " ▁▂▃▄▅▆▇█", " ..::||##"


def frame(view: View, where: str, zone: tzinfo, *, plain: bool) -> Group:
    """One screen.

    Arguments:
        where: the Redis, and the namespace.
        zone: of the times on it.
        plain: whether the terminal has ASCII alone.
    """
    parts: list[Any] = [_heading(view, where, zone)]
    if view.error:
        since = f"Redis can't be asked since {moment(view.away, zone)}: " if view.away else ""
        parts.append(Text(f"{since}{view.error}", style="bold red"))
    now = view.counted
    if now is not None:
        style = "dim" if view.away else ""
        parts += [
            Panel(_figures(view, now), style=style, box=box.ASCII if plain else box.ROUNDED),
            Panel(
                Text("\n".join(histogram(now.ahead, HEIGHT, LETTERS if plain else BLOCKS))),
                title=f"due per minute, the next {MINUTES} minutes",
                subtitle=f"{max(0, now.waiting - now.due - sum(now.ahead))} later",
                style=style,
                box=box.ASCII if plain else box.ROUNDED,
            ),
            _next(now, zone),
        ]
    if not view.away:
        parts.append(_workers(view.workers, "not asked" if view.error else "no answer"))
    return Group(*parts)


def _heading(view: View, where: str, zone: tzinfo) -> Text:
    return Text.assemble(("celery expiry watch", "bold"), f"  {where}  {moment(view.at, zone)} ({zone})")


def _figures(view: View, now: Snapshot) -> Group:
    late = view.lateness
    counts = (
        ("waiting", now.waiting, ""),
        ("due", now.due, "red"),
        ("claimed", now.claimed, ""),
        ("parked", now.parked, "yellow"),
        ("dead letters", now.dead, "red"),
    )
    speed = (
        ("fired", "-" if view.rate is None else f"{view.rate:,.1f}/s"),
        *((f"lateness {name}", lateness(late.get(name))) for name in ("p50", "p99", "max")),
    )
    return Group(
        _row((name, f"{count:,}", f"bold {style if count else ''}") for name, count, style in counts),
        _row((name, text, "bold") for name, text in speed),
    )


def _row(cells: Iterable[tuple[str, str, str]]) -> Text:
    return Text("   ").join(Text.assemble(f"{name} ", (text, style)) for name, text, style in cells)


def histogram(counts: Sequence[int], height: int, blocks: str) -> list[str]:
    """Bars side by side, the highest as high as there is room; below them the minutes."""
    top, steps = max(counts, default=0), len(blocks) - 1
    lines = []
    for row in reversed(range(height)):
        cells = []
        for count in counts:
            # whatever is not nothing is seen
            filled = max(-(-count * height * steps // top), 1) if count else 0
            cells.append(blocks[min(max(filled - row * steps, 0), steps)])
        lines.append(f"{top if row == height - 1 else '':>8} " + "".join(cells))
    marks = "".join(f"{minute:<10}" for minute in range(0, len(counts), 10))
    return [*lines, f"{'minutes':>8} {marks}".rstrip()]


def _next(now: Snapshot, zone: tzinfo) -> Table:
    table = Table(
        box=None, title="next", title_justify="left", title_style="bold", expand=True, pad_edge=False
    )
    for name, ratio in (("remaining", None), ("due", None), ("timer", 2), ("task", 2), ("arguments", 3)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
    for timer in now.next:
        label = shown(timer.name or timer.id)
        cells = (remaining(timer), moment(timer.due, zone), label, shown(timer.task), call(timer))
        table.add_row(*map(Text, cells))
    return table


def _workers(workers: Answers, silent: str) -> Table | Text:
    if not workers:
        return Text("no expiry worker is running", style="bold red")
    names = ("fired", "fired_by_event", "fired_by_sweep", "recovered", "notifications")
    table = Table(box=None, title="workers", title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("worker", no_wrap=True)
    for name in names:
        table.add_column(name.removeprefix("fired_").replace("_", " "), justify="right")
    table.add_column("lateness p99", justify="right")
    for worker, told in sorted(workers.items()):
        label = Text(shown(worker))
        if told is None:
            table.add_row(label, Text(silent, style="yellow"))
            continue
        late = (told.get("lateness") or {}).get("p99")
        table.add_row(label, *(Text(figure(told.get(name))) for name in names), Text(lateness(late)))
    return table

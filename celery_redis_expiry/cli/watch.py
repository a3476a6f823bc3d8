"""`celery expiry watch`: a live screen."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from celery_redis_expiry.cli.base import DONE, FAILED, Command, json_option, option, say_json
from celery_redis_expiry.cli.watching import View, Watcher

INSTALL = "the screen needs rich: pip install 'celery-redis-expiry[watch]' (or say --json)"


@click.command(
    cls=Command,
    examples=("watch", "watch --interval 10", "watch --once", "watch --json | jq .due"),
    failed="rich is not installed; or a setting is unusable; with --once, also: Redis can't be reached",
)
@option(
    "-i",
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@option("--once", is_flag=True, help="Look once, and end; for pipes.")
@json_option("a line for each look")
@click.pass_context
def watch(ctx: click.Context, interval: float, once: bool, as_json: bool) -> None:
    """Watch the timers on a live screen, until Ctrl-C.

    What waits, how much falls due in each of the next 60 minutes, how fast and how late the expiry workers
    fire, the next timers, and the workers. Redis counts, so that looking costs the same however many timers
    there are. If Redis goes away the screen says so, and goes on when it is back.
    """
    watcher = Watcher(ctx.obj.app, min(interval, 1.0))
    try:
        with _ending(), _showing(ctx, watcher, as_json, live=not once) as show:
            while True:
                start = time.monotonic()
                view = watcher.look()
                show(view)
                if once:
                    ctx.exit(FAILED if view.away else DONE)
                time.sleep(max(0.0, interval - (time.monotonic() - start)))
    except KeyboardInterrupt:
        return


@contextmanager
def _showing(
    ctx: click.Context, watcher: Watcher, as_json: bool, *, live: bool
) -> Iterator[Callable[[View], None]]:
    """How a look is shown: a line of JSON, a live screen on a terminal, else a screen below the other."""
    if as_json:
        yield lambda view: say_json(ctx, view.as_dict())
        return
    try:
        from rich.console import Console
        from rich.live import Live

        from celery_redis_expiry.cli.screen import frame
    except ModuleNotFoundError as exc:
        raise click.ClickException(INSTALL) from exc
    console = Console(no_color=ctx.obj.no_color or None, highlight=False)
    where = f"{watcher.store.location.url}, namespace {watcher.store.namespace}"

    def drawn(view: View) -> Any:
        plain = not console.encoding.startswith("utf")
        return frame(view, where, ctx.obj.app.timezone, plain=plain)

    if not (live and console.is_terminal):
        yield lambda view: console.print(drawn(view))
        return
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        yield lambda view: screen.update(drawn(view), refresh=True)


@contextmanager
def _ending() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C: the terminal must get its own screen back."""

    def end(*_: Any) -> NoReturn:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

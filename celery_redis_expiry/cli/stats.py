"""`celery expiry stats`: how many timers there are, and what the expiry workers say."""

from __future__ import annotations

from typing import Any

import click

from celery_redis_expiry.cli.base import Command, json_option, option, say_json, store
from celery_redis_expiry.cli.texts import figure, lateness
from celery_redis_expiry.cli.workers import Answers, asked
from celery_redis_expiry.store import snapshot
from celery_redis_expiry.timer import shown

COUNTS = ("waiting", "due", "parked", "claimed", "dead")
#: Of what a worker says of itself, what fits a table.
FIGURES = (
    "fired",
    "fired_by_event",
    "fired_by_sweep",
    "fired_in_place",
    "recovered",
    "notifications",
    "in_place",
)


@click.command(
    cls=Command,
    examples=("stats", "stats --json | jq .due", "stats --timeout 0"),
    failed="Redis can't be reached, or refuses",
)
@option(
    "-t",
    "--timeout",
    type=click.FloatRange(0, 60),
    default=1.0,
    show_default=True,
    help="Seconds to wait for the expiry workers' own figures; 0 asks none of them.",
)
@json_option("one document")
@click.pass_context
def stats(ctx: click.Context, timeout: float, as_json: bool) -> None:
    """Count the timers, and tell what the expiry workers say of themselves.

    \b
    waiting  in the due index, those that are due among them
    due      should have fired by now, and wait for a worker
    parked   have a trigger key without TTL, and fire when it gets one
    claimed  are being published
    dead     could not be published

    A worker that does not answer in time is listed all the same. Lateness is that of the last minutes.
    """
    timers = store(ctx)
    now = snapshot(timers)
    counts = {name: getattr(now, name) for name in COUNTS}
    workers, problem = asked(ctx.obj.app, now.workers, timeout)
    if problem:
        ctx.obj.error(problem)
    if as_json:
        told = {"redis": timers.location.url, "namespace": timers.namespace, **counts}
        say_json(ctx, {**told, "workers": workers})
        return
    ctx.obj.echo(f"{timers.location.url}, namespace {timers.namespace}")
    for name, count in counts.items():
        bad = count and name in ("due", "dead")
        ctx.obj.echo(ctx.obj.style(f"{name:>10}  {count}", fg="red" if bad else None))
    silent = "did not answer" if timeout and not problem else "was not asked"
    for line in _lines(workers, silent):
        ctx.obj.echo(line)


def _lines(workers: Answers, silent: str) -> list[str]:
    if not workers:
        return ["no expiry worker is running"]
    lines = []
    for name, told in sorted(workers.items()):
        figures = ", ".join(_figures(told)) if told else silent
        lines.append(f"{shown(name)}: {figures}")
    return lines


def _figures(told: dict[str, Any]) -> list[str]:
    figures = [f"{name.replace('_', ' ')} {figure(told[name])}" for name in FIGURES if name in told]
    late = told.get("lateness") or {}
    if late.get("count"):
        figures.append(
            "lateness " + ", ".join(f"{each} {lateness(late.get(each))}" for each in ("p50", "p99", "max"))
        )
    return figures

"""`celery expiry dead …`: dead letters listed, retried, discarded."""

from __future__ import annotations

import json

import click
from celery.bin.base import CeleryCommand

from celery_redis_expiry.cli.base import Group, store
from celery_redis_expiry.store import Store
from celery_redis_expiry.timer import DeadLetter


@click.group(cls=Group)
def dead() -> None:
    """Dead letters: timers that can't be published, kept with their reason."""


@dead.command(name="list", cls=CeleryCommand)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one dead letter a line.")
@click.pass_context
def list_(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    letters = store(ctx).dead_letters(limit)
    for letter in letters:
        if as_json:
            click.echo(
                json.dumps(
                    {"timer": letter.label, "buried": letter.buried.isoformat(), "reason": letter.reason}
                )
            )
        else:
            click.echo(f"{letter.buried:%Y-%m-%d %H:%M:%S}  {letter.label}\n    {letter.reason}")
    if not letters and not as_json:
        click.echo("no dead letters")


@dead.command(cls=CeleryCommand)
@click.argument("timers", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.pass_context
def retry(ctx: click.Context, timers: tuple[str, ...], every: bool) -> None:
    """Fire dead letters again, now. TIMERS are names or task ids."""
    held = store(ctx)
    done = sum(held.retry(letter) for letter in _chosen(held, timers, every))
    click.echo(f"{done} wait again, due now")


@dead.command(cls=CeleryCommand)
@click.argument("timers", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.confirmation_option(prompt="Discard for good?")
@click.pass_context
def discard(ctx: click.Context, timers: tuple[str, ...], every: bool) -> None:
    """Forget dead letters for good. TIMERS are names or task ids."""
    held = store(ctx)
    done = sum(held.discard(letter) for letter in _chosen(held, timers, every))
    click.echo(f"{done} discarded")


def _chosen(store: Store, timers: tuple[str, ...], every: bool) -> list[DeadLetter]:
    if every == bool(timers):
        raise click.UsageError("Name the timers, or give --all.")
    letters: list[DeadLetter] = []
    page = 1000
    while chunk := store.dead_letters(page, len(letters)):
        letters += chunk
    if every:
        return letters
    missing = set(timers) - {letter.label for letter in letters}
    if missing:
        raise click.ClickException(f"no such dead letter: {', '.join(sorted(missing))}")
    return [letter for letter in letters if letter.label in timers]

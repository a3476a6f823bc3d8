"""`celery expiry …`: what an operator types."""

from __future__ import annotations

import json
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.plugin import install
from celery_redis_expiry.store import Store, store_of
from celery_redis_expiry.timer import DeadLetter
from celery_redis_expiry.worker.service import broker_identity

install()


class _Group(click.Group):
    """Errors of this package are the user's to mend: a line, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExpiryError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(name="expiry", cls=_Group)
def expiry() -> None:
    """Timers kept in Redis (celery-redis-expiry).

    Start the worker that fires them with: celery -A proj worker -P expiry -n expiry@%h
    """


@expiry.command(cls=CeleryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
@handle_preload_options
def stats(ctx: click.Context, as_json: bool) -> None:
    """How many timers are waiting, parked, claimed and dead."""
    store = _store(ctx)
    counts = store.counts()
    if as_json:
        click.echo(json.dumps({"redis": store.location.url, "namespace": store.namespace, **counts}))
        return
    click.echo(f"{store.location.url}, namespace {store.namespace}")
    for name, count in counts.items():
        click.echo(f"{name:>10}  {count}")


@expiry.command(cls=CeleryCommand)
@click.confirmation_option(prompt="Record this app and its broker as the owner of the namespace?")
@click.pass_context
@handle_preload_options
def adopt(ctx: click.Context) -> None:
    """Take the namespace over, after the app or its broker was moved or renamed."""
    _store(ctx).enter(broker_identity(ctx.obj.app), adopt=True)
    click.echo("adopted")


@expiry.group(cls=_Group)
def dead() -> None:
    """Dead letters: timers that can't be published, kept with their reason."""


@dead.command(name="list", cls=CeleryCommand)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one dead letter a line.")
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    letters = _store(ctx).dead_letters(limit)
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
@handle_preload_options
def retry(ctx: click.Context, timers: tuple[str, ...], every: bool) -> None:
    """Fire dead letters again, now. TIMERS are names or task ids."""
    store = _store(ctx)
    done = sum(store.retry(letter) for letter in _chosen(store, timers, every))
    click.echo(f"{done} wait again, due now")


@dead.command(cls=CeleryCommand)
@click.argument("timers", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.confirmation_option(prompt="Discard for good?")
@click.pass_context
@handle_preload_options
def discard(ctx: click.Context, timers: tuple[str, ...], every: bool) -> None:
    """Forget dead letters for good. TIMERS are names or task ids."""
    store = _store(ctx)
    done = sum(store.discard(letter) for letter in _chosen(store, timers, every))
    click.echo(f"{done} discarded")


def _store(ctx: click.Context) -> Store:
    return store_of(ctx.obj.app)


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

"""`celery expiry dead …`: dead letters listed, shown, retried, discarded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import click

from celery_redis_expiry import iter_dead_letters
from celery_redis_expiry.cli.base import (
    FAILED,
    Command,
    Group,
    argument,
    confirm_option,
    json_option,
    option,
    progress,
    say_json,
    store,
)
from celery_redis_expiry.cli.details import known, say
from celery_redis_expiry.cli.texts import letter_told, moment
from celery_redis_expiry.errors import TimerExists
from celery_redis_expiry.timer import DeadLetter, shown


@click.group(cls=Group)
def dead() -> None:
    """Dead letters: timers that can't be published, kept with their reason."""


def filtering(command: Any) -> Any:
    """The options that say which dead letters are meant."""
    command = option(
        "-n",
        "--name",
        metavar="PATTERN",
        help_group="Filters",
        help="The name of the timer, such as 'referral:*'; one without a name goes by its task id.",
    )(command)
    return option(
        "-t", "--task", metavar="PATTERN", help_group="Filters", help="The task, such as 'shop.*'."
    )(command)


@dead.command(
    name="list",
    cls=Command,
    examples=("dead list", "dead list --task 'shop.*' --json"),
    failed="Redis can't be reached, or refuses",
)
@filtering
@option("-l", "--limit", type=click.IntRange(1), default=100, show_default=True, help="So many, the newest.")
@json_option("a line for each dead letter")
@click.pass_context
def list_(ctx: click.Context, task: str | None, name: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, newest first. Times are in the time zone of the app."""
    zone, found = ctx.obj.app.timezone, False
    for letter in islice(_meant(ctx, task, name), limit):
        found = True
        if as_json:
            say_json(ctx, letter_told(letter))
            continue
        label = ctx.obj.style(letter.label, bold=True)
        ctx.obj.echo(f"{moment(letter.buried, zone)}  {label}  {shown(letter.task)}\n    {letter.reason}")
    if not found and not as_json:
        ctx.obj.echo("no dead letters")


@dead.command(
    cls=Command,
    examples=("dead show referral:42", "dead show referral:42 --json"),
    failed="there is no such dead letter, or Redis can't be reached",
)
@argument("timer")
@json_option("one document")
@click.pass_context
def show(ctx: click.Context, timer: str, as_json: bool) -> None:
    """Show all that is known of a dead letter. TIMER is its name or its task id."""
    for letter in _chosen(ctx, (timer,), False, None, None)[:1]:
        say(ctx, known(store(ctx), letter), as_json)


def choosing(command: Any) -> Any:
    """What `retry` and `discard` are told."""
    for each in (
        json_option("one document"),
        option("-a", "--all", "every", is_flag=True, help="All of them."),
        filtering,
        argument("timers", nargs=-1),
    ):
        command = each(command)
    return command


@dead.command(
    cls=Command,
    examples=("dead retry referral:42", "dead retry --task 'shop.*'", "dead retry --all"),
    failed="one of TIMERS is no dead letter, and none was retried; one recurs, and another has its name by "
    "now (the others were retried); or Redis can't be reached",
)
@choosing
@click.pass_context
def retry(ctx: click.Context, /, as_json: bool, **chosen: Any) -> None:
    """Fire dead letters again, now. TIMERS are names or task ids."""
    taken = []

    def again(letter: DeadLetter) -> bool:
        try:
            return store(ctx).retry(letter)
        except TimerExists as exc:
            taken.append(f"{letter.label}: {exc}")
            return False

    done = _apply(ctx, "retrying", again, **chosen)
    say_json(ctx, {"retried": done}) if as_json else ctx.obj.echo(f"{done} wait again, due now")
    for each in taken:
        ctx.obj.error(each)
    if taken:
        ctx.exit(FAILED)


@dead.command(
    cls=Command,
    examples=("dead discard referral:42", "dead discard --name 'referral:*' --yes"),
    failed="the answer was no, or one of TIMERS is none: nothing was discarded; or Redis can't be reached",
)
@choosing
@confirm_option("Discard for good?")
@click.pass_context
def discard(ctx: click.Context, /, as_json: bool, **chosen: Any) -> None:
    """Forget dead letters for good. TIMERS are names or task ids."""
    done = _apply(ctx, "discarding", store(ctx).discard, **chosen)
    say_json(ctx, {"discarded": done}) if as_json else ctx.obj.echo(f"{done} discarded")


def _meant(ctx: click.Context, task: str | None, name: str | None) -> Iterator[DeadLetter]:
    return (
        letter
        for letter in iter_dead_letters(app=ctx.obj.app)
        if (task is None or fnmatchcase(letter.task, task))
        and (name is None or fnmatchcase(letter.label, name))
    )


def _apply(
    ctx: click.Context,
    label: str,
    change: Callable[[DeadLetter], bool],
    timers: tuple[str, ...],
    every: bool,
    task: str | None,
    name: str | None,
) -> int:
    letters = _chosen(ctx, timers, every, task, name)
    done = 0
    with progress(ctx, len(letters), label) as advance:
        for letter in letters:
            done += change(letter)
            advance(1)
    return done


def _chosen(
    ctx: click.Context, timers: tuple[str, ...], every: bool, task: str | None, name: str | None
) -> list[DeadLetter]:
    """All at once: what is retried or discarded would shift the others."""
    if [bool(timers), every, bool(task or name)].count(True) != 1:
        raise click.UsageError("Name the timers, or give --task or --name, or --all.")
    letters = list(_meant(ctx, task, name))
    if not timers:
        return letters
    missing = set(timers) - {known for letter in letters for known in (letter.label, letter.id)}
    if missing:
        raise click.ClickException(f"no such dead letter: {', '.join(sorted(map(shown, missing)))}")
    return [letter for letter in letters if {letter.label, letter.id} & set(timers)]

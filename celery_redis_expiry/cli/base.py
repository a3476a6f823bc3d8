"""What the commands share: how they look, how they are asked, how they answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption

from celery_redis_expiry.errors import ExpiryError, NotConfigured
from celery_redis_expiry.store import Store, store_of
from celery_redis_expiry.timer import shown

DONE, FAILED, USAGE = 0, 1, 2

#: The app that `celery` makes up without -A.
NOBODY = "default"

#: The first two are those of `celery purge`.
SPARE_ASKING = ("-f", "--force", "-y", "--yes")

#: An option as Celery's own commands have them.
option: Callable[..., Any] = partial(click.option, cls=CeleryOption)


class Argument(click.Argument):
    """One that the text of the help explains: click lists it there, without a word, from some release on."""

    def get_help_record(self, ctx: click.Context) -> Any:
        return None


argument: Callable[..., Any] = partial(click.argument, cls=Argument)


class Group(click.Group):
    """Errors of this package are the user's to mend: a line, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExpiryError as exc:
            if isinstance(exc, NotConfigured) and ctx.obj.app.main == NOBODY:
                raise click.ClickException("whose timers? Name the app: celery -A proj expiry …") from exc
            raise click.ClickException(shown(str(exc))) from exc


class Command(CeleryCommand):
    """A command whose help ends with examples and exit codes.

    Arguments:
        examples: what to type after `celery -A proj expiry`.
        failed: what exit code 1 means.
    """

    def __init__(self, *args: Any, examples: Sequence[str], failed: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.failed = failed

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}celery -A proj expiry {example}\n")
        with formatter.section("Exit codes"):
            meanings = {DONE: "done", FAILED: self.failed, USAGE: "wrong usage; nothing was done"}
            formatter.write_dl([(str(code), meaning) for code, meaning in meanings.items()])


def json_option(what: str) -> Any:
    """`--json`, and what it prints."""
    return option("-j", "--json", "as_json", is_flag=True, help=f"Print JSON: {what}.")


def confirm_option(prompt: str) -> Any:
    """Ask before a change that can't be undone, on stderr, unless told not to."""

    def ask(ctx: click.Context, param: click.Parameter, spared: bool) -> None:
        if not spared:
            click.confirm(prompt, abort=True, err=True)

    return option(*SPARE_ASKING, is_flag=True, expose_value=False, callback=ask, help="Don't ask.")


def store(ctx: click.Context) -> Store:
    """The store of the app that `celery -A` names."""
    return store_of(ctx.obj.app)


def say_json(ctx: click.Context, told: Any) -> None:
    """One document, on one line."""
    # the headers of a message may hold what JSON has no word for: times, UUIDs, numbers of any precision
    ctx.obj.echo(json.dumps(told, default=str))


@contextmanager
def progress(ctx: click.Context, length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; `celery --quiet` spares it. Yields what moves it on."""
    if ctx.obj.quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update

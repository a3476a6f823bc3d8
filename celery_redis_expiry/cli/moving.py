"""`celery expiry export` and `import`: all timers to another Redis."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TextIO

import click

from celery_redis_expiry.cli.base import (
    FAILED,
    Command,
    argument,
    json_option,
    option,
    progress,
    say_json,
    store,
)
from celery_redis_expiry.store import Unready, awake
from celery_redis_expiry.timer import shown
from celery_redis_expiry.transfer import exported, header, imported

#: What can be said of the lines of a file, in the order in which it is said.
OUTCOMES = ("good", "put", "replaced", "here", "kept", "bad")


@click.command(
    name="export",
    cls=Command,
    examples=("export timers.jsonl", "export | gzip > timers.jsonl.gz"),
    failed="not everything could be exported, see stderr; or Redis can't be reached",
)
@argument("file", type=click.Path(dir_okay=False, writable=True, allow_dash=True), default="-")
@click.pass_context
def export(ctx: click.Context, file: str) -> None:
    """Write all timers and dead letters to FILE, as JSON lines; without FILE, to stdout.

    Nothing is changed: the timers go on waiting here. The file holds the arguments of the tasks. It is no
    snapshot: stop the expiry workers, and who schedules, first. How to move to another Redis, step by step:
    docs/cli.md.
    """
    timers = store(ctx)
    if workers := awake(timers.shards):
        ctx.obj.error(
            f"expiry workers are running ({shown(', '.join(workers))}): what fires meanwhile may be in the "
            "file, too, and would fire again where it is imported. Stop them for a move."
        )
    else:
        timers.recover()
    counts = timers.counts()
    length = sum(counts.values()) - counts["claimed"]
    lines = 0
    with progress(ctx, length, "exporting") as advance, _whole(file) as out:
        for line in exported(timers, advance):
            out.write(line + "\n")
            lines += 1
    if file != "-":
        ctx.obj.echo(f"{lines - 2} exported")  # the first and the last are no timers
    if claimed := timers.counts()["claimed"]:
        ctx.obj.error(
            f"{claimed} timers are claimed by a worker, and not in the file: wait until their lease ends, "
            "and run this again"
        )
        ctx.exit(FAILED)


@click.command(
    name="import",
    cls=Command,
    examples=(
        "import timers.jsonl",
        "import --check timers.jsonl",
        "import < timers.jsonl",
    ),
    failed="a line can't be used, or the file is cut off; the rest is stored. Or nothing can be stored",
)
@argument("file", type=click.File("r", encoding="ascii", errors="replace"), default="-")
@option(
    "--if-exists",
    type=click.Choice(("keep", "replace")),
    default="keep",
    show_default=True,
    help="Of a timer that waits here already under the same name or task id: keep it, or replace it.",
)
@option("--check", is_flag=True, help="Only look whether all lines are good; nothing is stored.")
@option("--adopt", is_flag=True, help="Take the timers of another app.")
@option(
    "--live",
    is_flag=True,
    help="Although expiry workers run here. Don't run it twice then: what fired meanwhile would fire again.",
)
@json_option("one document")
@click.pass_context
def import_(
    ctx: click.Context,
    file: TextIO,
    if_exists: str,
    check: bool,
    adopt: bool,
    live: bool,
    as_json: bool,
) -> None:
    """Store what `export` wrote to FILE; without FILE, from stdin.

    Every timer arrives as it was: due to the millisecond, parked, named, with its attempts. Running it again,
    after an interruption, stores the rest. Bad lines are named and passed over.
    """
    timers = store(ctx)
    if not (live or check) and (workers := awake(timers.shards)):
        raise Unready(f"stop the expiry workers first ({', '.join(workers)}), or give --live")
    first = next(file, "")
    length = _length(first)
    with progress(ctx, length, "checking" if check else "importing") as advance:
        counts = imported(
            timers,
            chain((first,), file),
            replace=if_exists == "replace",
            adopt=adopt,
            dry=check,
            progress=advance,
            bad=lambda number, why: ctx.obj.error(f"line {number}: {why}"),
        )
    if as_json:
        say_json(ctx, counts)
    else:
        ctx.obj.echo(", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts) or "0 timers")
    if counts.get("bad"):
        ctx.exit(FAILED)


@contextmanager
def _whole(file: str) -> Iterator[IO[str]]:
    """Write to a file that is there once it is complete, and not before; for its owner alone."""
    if file == "-":
        yield sys.stdout
        return
    path = Path(file)
    try:
        if path.exists() and not path.is_file():
            # a pipe or a device: nothing can take its place
            with path.open("w") as out:
                yield out
            return
        path = path.resolve()  # what a link leads to, not the link
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            partial = Path(out.name)
            try:
                yield out
                out.flush()
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as exc:
        raise click.FileError(file, exc.strerror) from exc


def _length(first: str) -> int:
    """How many lines are to come, as far as the header tells."""
    counts = header(first).get("counts")
    if not isinstance(counts, dict):
        return 0
    return sum(count for name, count in counts.items() if name != "claimed" and isinstance(count, int))

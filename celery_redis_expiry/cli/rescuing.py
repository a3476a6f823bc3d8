"""`celery expiry rescue`: messages with an ETA that lie in the broker already become timers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from celery_redis_expiry.cli.base import Command, json_option, option, progress, say_json, store
from celery_redis_expiry.cli.selecting import MOMENT
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.rescue import Broker, Rescue, consumers
from celery_redis_expiry.store import Unready, awake
from celery_redis_expiry.timer import shown

#: What became of the messages, in the order in which it is told; of those without an ETA nobody asks.
OUTCOMES = ("rescued", "known", "kept", "gone", "soon", "shared", "unfit")


def _delay(ctx: click.Context, param: click.Parameter, value: Any) -> float:
    if not isinstance(value, timedelta):
        raise click.BadParameter("it must be a duration (10m, 1d12h)")
    return value.total_seconds()


@click.command(
    cls=Command,
    examples=("rescue --dry-run", "rescue", "rescue --queue slow --min-delay 10m", "rescue --unacked"),
    failed="a worker may hold what --unacked means; or Redis can't be reached: run it again",
)
@option(
    "-Q",
    "--queue",
    "queues",
    multiple=True,
    help="A queue; may be repeated. Default: those of the app's configuration.",
)
@option(
    "--min-delay",
    type=MOMENT,
    default="1m",
    show_default=True,
    callback=_delay,
    help="What is due sooner stays where it is.",
)
@option(
    "--unacked",
    is_flag=True,
    help="Also what workers held that were killed. Stop all workers first, warmly.",
)
@option(
    "--live",
    is_flag=True,
    help="With --unacked, although workers run: what they hold runs twice.",
)
@option(
    "-T",
    "--timeout",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds to wait for answers of workers, with --unacked.",
)
@option("--dry-run", "dry", is_flag=True, help="Only count; nothing is changed.")
@json_option("one document")
@click.pass_context
def rescue(
    ctx: click.Context,
    queues: tuple[str, ...],
    min_delay: float,
    unacked: bool,
    live: bool,
    timeout: float,
    dry: bool,
    as_json: bool,
) -> None:
    """Make timers of messages with a countdown or ETA that lie in a Redis broker already.

    Workers and producers may go on: a message is in its queue or a timer, never both, never neither. What
    workers hold is left to them, and when they stop, warmly, they put it back. A run that was interrupted is
    finished by the next.
    """
    app, timers = ctx.obj.app, store(ctx)
    # before any is made up for a message that lies elsewhere
    names = queues or tuple(app.amqp.queues)
    broker = Broker(app)
    workers = awake(timers.shards)
    if not workers and not dry:
        ctx.obj.error("no expiry worker runs: what is rescued waits until one does")
    if unacked and not (live or dry):
        _without_consumers(app, broker, workers, timeout)
    keys = [key for name in names for key in broker.keys_of(name)]
    held = broker.held()
    length = broker.size(keys) + (held if unacked else 0)
    with progress(ctx, length, "looking at messages") as advance:
        run = Rescue(app, timers, broker, min_delay=min_delay, dry=dry, progress=advance)
        run.finish()
        if unacked:
            run.unacked(names)
        for name in names:
            run.queue(name)
    if held and not unacked:
        ctx.obj.error(
            f"{held} messages more are held by workers, or were by some that were killed; some may have an "
            "ETA: see --unacked"
        )
    if as_json:
        say_json(ctx, {name: run.counts[name] for name in OUTCOMES})
        return
    told = ", ".join(f"{run.counts[name]} {name}" for name in OUTCOMES if run.counts[name])
    ctx.obj.echo((told or "0 rescued") + (" (dry run: nothing was changed)" if dry else ""))


def _without_consumers(app: Any, broker: Broker, expiry_workers: list[str], timeout: float) -> None:
    try:
        found = consumers(app, broker, expiry_workers, timeout)
    except StoreUnavailable as exc:
        raise Unready(f"whether workers run can't be told ({exc}); if none does, give --live") from exc
    if found:
        raise Unready(
            "stop the workers first, warmly: they hold what is unacknowledged, and would run it as well as "
            f"its timers. There are: {shown(', '.join(found))}"
        )

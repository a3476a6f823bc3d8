"""What holds 50,000 countdowns: a Celery worker, or Redis once the app has `expiry_countdown_threshold`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks.bench import Bench, Row, say
from benchmarks.figures import count
from benchmarks.holding import Holder, Items
from benchmarks.peers import COUNTDOWN, Peer

TITLE = "Drop-in"
INTRO = (
    "An app that calls `apply_async(countdown=…)`, as it is, and with `expiry_countdown_threshold`: one "
    "ordinary worker with its defaults, and with the setting an expiry worker besides; broker and timers in "
    "one Redis of each one's own. Both do each step at the same time. *Other jobs* are sent at once: the "
    "first when the worker starts, behind all that waits, the others while everything is held. The ledger, "
    "kept by the jobs themselves, says how often each of those ran that fell due, until nothing ran any "
    "more, and how late the last one ran for the first time. A kill is a `kill -9` of all workers at once, "
    "before anything is due; one of each kind is started again at once."
)
COLUMNS = {
    **{"held": "wait", "worker": "worker, MiB", "expiry": "expiry worker, MiB", "redis": "Redis, MiB"},
    **{"unacked": "unacked", "prefetch": "prefetch count"},
    **{"first": "first other job, s", "probe": "other jobs, ms"},
    **{"due": "fell due", "once": "ran once", "more": "ran more often", "missing": "did not run"},
    **{"late": "last one late by, s"},
}
RATIO = None
THRESHOLD = 5
DROP_IN = Peer(
    *("drop-in", "with `expiry_countdown_threshold`", "drop_in"), roles=("expiry", "worker"), patience=20
)
STOCK = replace(COUNTDOWN, title="`countdown`, Celery alone")
#: Seconds; and those after which a sweep for what is visible again begins in a worker that has started.
VISIBILITY, SWEEP = 30, 10
#: How many fall due a second: fewer than a worker can run, so that it is not its speed which makes them late.
RATE = 100
#: Seconds in which both are killed and started again, on a machine that others use as well.
LEAD = 15
DAYS = 3 * 86_400


def run(bench: Bench) -> Iterator[Row]:
    held, due = (1_000, 100) if bench.quick else (50_000, 1_000)
    yield from _story(bench, _killed, {}, held, due)
    if not bench.quick:  # a visibility timeout takes its time
        conf = {"broker_transport_options": {"visibility_timeout": VISIBILITY}}
        yield from _story(bench, _visible_again, conf, 5_000, due)


def _story(
    bench: Bench, story: Callable[..., Iterator[Row]], conf: dict[str, Any], *numbers: int
) -> Iterator[Row]:
    with ExitStack() as stack:
        holders = []
        for peer in (STOCK, DROP_IN):
            store = stack.enter_context(bench.server())
            more = {**conf, **({"expiry_countdown_threshold": THRESHOLD} if peer is DROP_IN else {})}
            stage = stack.enter_context(bench.site_on(store, peer, **more))
            holders.append(Holder(stage))
            stack.callback(holders[-1].close)
        yield from story(bench, holders, *numbers)


def _killed(bench: Bench, holders: list[Holder], held: int, due: int) -> Iterator[Row]:
    """What they hold, and a kill -9 with the visibility timeout as it comes, an hour."""
    for holder in () if bench.quick else holders:
        holder.start()
        yield _row(bench, holder, "nothing waits", {"held": 0, **holder.holds()})
        holder.kill()
    say(f"  {count(held)} are scheduled")
    _schedule(holders, _items("waits", held - due, time.time() + DAYS))
    say("  they are taken")
    first = [holder.start() for holder in holders]
    # and the scheduling itself takes time
    items = _schedule(holders, _items("due", due, time.time() + LEAD + due / 150))
    case = f"{count(held)} wait"
    for holder, seconds in zip(holders, first, strict=True):
        figures = {"held": held, "first": seconds, "probe": holder.probe(), **holder.holds()}
        yield _row(bench, holder, case, figures)
    say("  kill -9")
    for holder in holders:
        holder.kill()
    patience = 3 if bench.quick else 20
    yield from _ledger(bench, holders, f"{case}, kill -9", items, patience=patience, start=True)


def _visible_again(bench: Bench, holders: list[Holder], held: int, due: int) -> Iterator[Row]:
    """A visibility timeout of 30 s; when those due first have run, a kill -9."""
    for holder in holders:
        holder.start()
    say(f"  {count(held)} are scheduled")
    lead = time.time() + held / 250 + VISIBILITY + SWEEP + LEAD
    _schedule(holders, _items("waits", held - 2 * due, time.time() + DAYS))
    first = _schedule(holders, _items("first", due, lead))
    second = _schedule(holders, _items("second", due, lead + due / RATE + 2 * LEAD))
    time.sleep(VISIBILITY + 1)
    say("  a second worker")
    for holder in holders:
        holder.start_second()
    case = f"{count(held)} wait, `visibility_timeout` {VISIBILITY} s, a second worker starts"
    yield from _ledger(bench, holders, case, first, patience=30)
    say("  kill -9")
    for holder in holders:
        holder.kill()
    case = f"{count(held - due)} wait, `visibility_timeout` {VISIBILITY} s, kill -9"
    yield from _ledger(bench, holders, case, second, patience=60, start=True)


def _items(prefix: str, number: int, due: float) -> Items:
    return [(f"{prefix}{i}", int((due + i / RATE) * 1000)) for i in range(number)]


def _schedule(holders: list[Holder], items: Items) -> Items:
    """By all at the same time."""
    for holder in holders:
        holder.ask_schedule(items)
    for holder in holders:
        holder.stage.client.answer(300)
    if items[0][1] < (time.time() + THRESHOLD) * 1000:
        raise AssertionError("scheduling took so long that the first were due: nothing to tell them apart by")
    return items


def _ledger(
    bench: Bench, holders: list[Holder], case: str, items: Items, *, patience: float, start: bool = False
) -> list[Row]:
    if start:
        for holder in holders:
            holder.start()
    for holder in holders:
        holder.settle(items, patience)
    return [_row(bench, holder, case, holder.ledger(items)) for holder in holders]


def _row(bench: Bench, holder: Holder, case: str, figures: Mapping[str, float]) -> Row:
    peer = holder.stage.peer
    row = bench.row(peer.name, peer.title, case, "ours" if peer is DROP_IN else "peer")
    row["rounds"].append(dict(figures))
    return row

"""Many due in one instant: messages a second until the last is in the broker's queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks import limits
from benchmarks.bench import Bench, Measure, Row
from benchmarks.bursting import Burst, sample, slowest_script, watch_slow
from benchmarks.client import PeerFailed
from benchmarks.peers import OURS
from benchmarks.site import Site
from benchmarks.watch import QueueDepth

TITLE = "Burst"
INTRO = (
    "All due in one instant. A second's messages, from the due time until the last is in the broker's queue "
    "(ours), or until the last job has run (peers). `apply_async` in a loop sends without any delay. The "
    "slowest script is the longest that one of ours held the timers' Redis up, ms."
)
COLUMNS = {
    **{"count": "due", "arrived": "arrived", "rate": "a second"},
    "slowest": "slowest script, ms",
}
RATIO = ("rate", "loop", "÷ the loop")
ONE, TWO, RABBITMQ = "one Redis database", "two Redis servers", "RabbitMQ, confirmed"
QUICK_PEERS = ("countdown", "bullmq")


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    with ExitStack() as stack:
        for case in (ONE, TWO, RABBITMQ):
            own = bench.row("ours", OURS.title, case, "ours")
            loop = bench.row("loop", "`apply_async` in a loop", case)
            try:
                stage = stack.enter_context(bench.site(OURS, broker=_broker(bench, stack, case)))
            except PeerFailed as exc:
                own["note"] = str(exc)
                yield own
                continue
            turns += [
                (own, _ours(bench, stage)),
                (loop, partial(_loop, stage, 500 if bench.quick else 5_000)),
            ]
            if case == ONE:
                turns += _limits(bench, stack, stage)
        count, patience = (500, 5.0) if bench.quick else (10_000, 60.0)
        for peer in bench.others(*(QUICK_PEERS if bench.quick else ())):
            stage = stack.enter_context(bench.site(peer))
            burst = Burst(stage, count, patience, runs=True)
            turns.append(
                (
                    bench.row(peer.name, peer.title, RABBITMQ if peer.scheme == "amqp" else ONE),
                    partial(_peers, burst),
                )
            )
        yield from bench.take_turns(turns, 1 if bench.quick else None)


def _broker(bench: Bench, stack: ExitStack, case: str) -> str | None:
    if case == TWO:
        return stack.enter_context(bench.server()).url()
    return bench.rabbitmq() if case == RABBITMQ else None


def _ours(bench: Bench, stage: Site) -> Measure:
    burst = Burst(stage, 2_000 if bench.quick else 100_000, 60, runs=False)

    def turn() -> Mapping[str, float | None]:
        with stage.working(("expiry",), QueueDepth):
            watch_slow(stage.store)
            measured = burst.measure()
        return {**measured, "slowest": slowest_script(stage.store)}

    return turn


def _peers(burst: Burst) -> Mapping[str, float]:
    with burst.stage.working():
        return burst.measure()


def _loop(stage: Site, count: int) -> Mapping[str, float]:
    answer = stage.client.do(120, do="send", count=count)
    with QueueDepth(stage.place) as queue:
        queue.clear()
    return {"rate": count / answer["seconds"]}


def _limits(bench: Bench, stack: ExitStack, stage: Site) -> list[tuple[Row, Measure]]:
    message = sample(stage)
    count = 20_000 if bench.quick else 100_000
    client = stack.enter_context(stage.store.client())
    return [
        (
            bench.row("limit-push", "limit: pipelined LPUSH of the same bytes", ONE, "limit"),
            partial(limits.push_rate, client, message, count),
        ),
        (
            bench.row("limit-claim", "limit: a bare claim script", ONE, "limit"),
            partial(limits.claim_rate, client, message, count),
        ),
    ]

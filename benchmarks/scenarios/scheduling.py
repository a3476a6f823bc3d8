"""How many a second can be scheduled: one by one, in bulk, from eight processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measure, Row
from benchmarks.client import Client, filling
from benchmarks.peers import COUNTDOWN, OURS
from benchmarks.place import Place
from benchmarks.watch import QueueDepth

TITLE = "Scheduling"
INTRO = (
    "Jobs a second that one process schedules for a later day, no worker running; from 8 processes, all of "
    "theirs together. In bulk: by the call that a peer has for many, else by a hundred calls at once where "
    "it is asynchronous. Timed is all that a program does for it, with us also making each signature; but "
    "connecting, and what else only the first calls do, is not: each process has scheduled a hundred before."
)
COLUMNS = {"rate": "a second"}
RATIO = ("rate", "countdown", "÷ `countdown`")
ONE, BULK, EIGHT = "one by one", "in bulk", "8 processes"
QUICK_PEERS = ("countdown", "bullmq")
PROCESSES = 8
#: How many each process schedules before: no contestant's connecting, loading and the like are timed.
FIRST = 100


def run(bench: Bench) -> Iterator[Row]:
    turns: list[tuple[Row, Measure]] = []
    seconds = 0.3 if bench.quick else 5.0
    peers = bench.others(*(QUICK_PEERS if bench.quick else ()))
    with ExitStack() as stack:
        for peer in (OURS, *(peer for peer in peers if not peer.name.startswith("bare-"))):
            kind = "ours" if peer is OURS else "peer"
            stage = stack.enter_context(bench.site(peer))
            client = stage.client
            turns.append(
                (bench.row(peer.name, peer.title, ONE, kind), partial(_rate, [client], "one", seconds))
            )
            if client.bulk:
                row = bench.row(peer.name, peer.title, BULK, kind)
                turns.append((row, partial(_rate, [client], "many", seconds)))
            if peer is COUNTDOWN:
                row = bench.row("loop", "`apply_async` in a loop, no delay", ONE)
                turns.append((row, partial(_loop, client, stage.place)))
            if peer is OURS or (peer is COUNTDOWN and not bench.quick):
                hands = [client, *(stage.new_client() for _ in range(PROCESSES - 1))]
                row = bench.row(peer.name, peer.title, f"{EIGHT}, {ONE}", kind)
                turns.append((row, partial(_rate, hands, "one", seconds)))
                if client.bulk:
                    row = bench.row(peer.name, peer.title, f"{EIGHT}, {BULK}", kind)
                    turns.append((row, partial(_rate, hands, "many", seconds)))
        yield from bench.take_turns(turns, 2 if bench.quick else None)


def _rate(clients: Sequence[Client], way: str, seconds: float) -> Mapping[str, float]:
    """As many as can be scheduled in that time, after a hundred."""
    for client in clients:
        client.do(60, **filling(FIRST, 60, way))
    started = time.perf_counter()
    for client in clients:
        client.ask(**filling(100_000, seconds, way))
    answers = [client.answer(seconds + 60) for client in clients]
    took = answers[0]["seconds"] if len(clients) == 1 else time.perf_counter() - started
    return {"rate": sum(answer["done"] for answer in answers) / took}


def _loop(client: Client, place: Place) -> Mapping[str, float]:
    answer = client.do(60, do="send", count=500)
    with QueueDepth(place) as queue:
        queue.clear()
    return {"rate": 500 / answer["seconds"]}

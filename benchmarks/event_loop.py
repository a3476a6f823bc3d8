"""How long a web app's event loop is held up while it schedules: `python -m benchmarks.event_loop`.

One FastAPI app under uvicorn, asked the same number of times to schedule (awaited, and as one should not),
and to do a plain `await redis.set`; in rounds, so that what else the machine does falls on all alike. The app
looks at the clock every millisecond: what it comes too late by, its loop was busy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.servers.asgi import ASGIServer
from tests.servers.redis import RedisServer, binaries

#: What is asked for, and what it is called.
KINDS = {
    "set": "`await redis.set`",
    "awaited": "`await aschedule_on_expiry`",
    "blocking": "`schedule_on_expiry`, which blocks",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2_000, help="of each kind, in each round")
    parser.add_argument("--clients", type=int, default=50, help="how many ask at the same time")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    version, binary = next(iter(binaries().items()))
    timers = RedisServer(binary, version).start()
    try:
        print("\n".join(run(timers, options.requests, options.clients, options.rounds)))
    finally:
        timers.remove()


def run(timers: RedisServer, requests: int, clients: int, rounds: int) -> list[str]:
    """The table, in Markdown."""
    lags: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    config = {"main": "bench", "broker": timers.url(), "backend": timers.url(1), "ledger": timers.url(2)}
    with tempfile.TemporaryDirectory(prefix="expiry-bench-") as folder:
        asgi = ASGIServer(config, Path(folder)).wait_ready()
        try:
            for kind in KINDS:  # what is loaded once is loaded
                asgi.ask(f"POST /{kind}/first")
            for number in range(rounds):
                for kind in KINDS:
                    asgi.ask("POST /lags")
                    began = time.perf_counter()
                    asgi.ask(*(f"POST /{kind}/{number}.{i}" for i in range(requests)), clients=clients)
                    rates[kind].append(requests / (time.perf_counter() - began))
                    lags[kind] += asgi.ask("POST /lags")[0]
        finally:
            asgi.process.kill()
    about = f"{rounds} × {requests:,} requests of each kind, {clients} at a time; one process, one server."
    head = ("each request", "requests/s", "loop late by, p50", "p99", "max")
    rows = [
        (name, f"{statistics.median(rates[kind]):,.0f}", *map(_ms, _percentiles(lags[kind])))
        for kind, name in KINDS.items()
    ]
    lines = (head, ["---"] * len(head), *rows)
    return ["## Event loop", "", about, "", *(f"| {' | '.join(line)} |" for line in lines)]


def _percentiles(lags: list[float]) -> tuple[float, float, float]:
    ordered = sorted(lags)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    main()

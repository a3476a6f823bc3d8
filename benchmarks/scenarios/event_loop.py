"""How long a web app's event loop is held up while it schedules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, Row, say
from benchmarks.event_loop import CLIENTS, Asked, Web
from tests.servers.proxy import Proxy

TITLE = "Event loop"
INTRO = (
    "One FastAPI app under uvicorn, 50 clients at a time, each request schedules one timer; in short turns. "
    "A *step* is what the loop does in one go, and nobody else is served meanwhile: the longest in each "
    "tenth of a second, by the clock and by the CPU that it used, which other processes don't lengthen; and "
    "the longest run of Python's garbage collector in a step. *Late* is by how much the loop came too late "
    "to look at the clock each millisecond: a step, or the many that wait before it. The limit does one "
    "`SET`. All figures are over all turns, so *max* is the worst there was."
)
COLUMNS = {
    **{"requests": "requests", "rate": "requests/s"},
    **{"step_p50": "longest step, ms: p50", "step_p99": "p99", "step_max": "max"},
    **{"cpu_p50": "its CPU, ms: p50", "cpu_p99": "p99", "cpu_max": "max"},
    **{"collector_max": "collector, ms: max"},
    **{"late_p50": "late, ms: p50", "late_p99": "p99", "late_max": "max"},
}
RATIO = None
KINDS = (
    ("awaited", "ours", "ours", "`await aschedule_on_expiry`"),
    ("blocking", "blocking", "peer", "`schedule_on_expiry`, which blocks"),
    ("set", "limit", "limit", "limit: `await redis.set`"),
)
#: Requests in a turn with Redis near, and away; turns. Of a quick run, and of a full one.
SIZES = {True: (200, 50, 2), False: (1_000, 100, 8)}
#: Seconds that an answer of a Redis takes that is not next door.
FAR = 0.02


def run(bench: Bench) -> Iterator[Row]:
    near, far, turns = SIZES[bench.quick]
    with bench.server() as store:
        case = "Redis on the same machine"
        yield from _measure(bench, case, store.url(), near, turns, frozen=False)
        yield from _measure(bench, f"{case}, `gc.freeze()` after the start", store.url(), near, turns)
        proxy = Proxy(("127.0.0.1", store.port))
        proxy.delay_back = FAR
        try:
            case = f"Redis {FAR * 1000:.0f} ms away, `gc.freeze()`"
            yield from _measure(bench, case, store.url(port=proxy.port), far, turns)
        finally:
            proxy.close()


def _measure(
    bench: Bench, case: str, url: str, requests: int, turns: int, *, frozen: bool = True
) -> list[Row]:
    asked = {kind: Asked() for kind, *_ in KINDS}
    with tempfile.TemporaryDirectory(prefix="expiry-bench-") as folder, Web(url, Path(folder)) as web:
        for kind in asked:  # what is loaded once is loaded, and everybody's connections are open
            web.ask(kind, 2 * CLIENTS)
        if frozen:
            web.freeze()
        for number in range(turns):
            say(f"  {case} ({number + 1} of {turns})")
            for kind, so_far in asked.items():
                so_far.add(web.ask(kind, requests))
    rows = []
    for kind, who, place, title in KINDS:
        row = bench.row(who, title, case, place)
        row["rounds"].append(asked[kind].figures())
        rows.append(row)
    return rows

"""`make bench`: each scenario for ours, for every peer, and for the limit, into benchmarks/results/."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks import report, results, scenarios
from benchmarks.bench import Bench, Row, choose, say
from tests.servers import rabbitmq
from tests.servers.redis import FETCH_HINT, binaries


def main() -> int:
    options = arguments().parse_args()
    failed: list[str] = []
    if not options.report:
        # as Ctrl-C: what was started is ended
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        failed = measure(options)
    print(report.write(options.results))
    return 1 if failed else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, under three minutes")
    parser.add_argument("--only", type=names, default=[], help=f"scenarios: {', '.join(scenarios.ALL)}")
    parser.add_argument("--peers", type=names, default=[], help="peers by name, or `none`; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds a peer may spend on filling its Redis"
    )
    parser.add_argument("--waiting", type=float, default=1e7, help="the most timers that are let wait")
    parser.add_argument(
        "--conf",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a setting for this package",
    )
    parser.add_argument("--redis", help="the Redis server's version; default: the first found")
    parser.add_argument(
        "--results", type=Path, default=results.FOLDER, help="folder of the JSON files and the report"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing: write the report anew")
    return parser


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def measure(options: argparse.Namespace) -> list[str]:
    """Run what was chosen, and write what it measured; answers the scenarios that failed."""
    failed: list[str] = []
    found = binaries()
    if not found:
        raise SystemExit(f"no redis-server: {FETCH_HINT}")
    version = options.redis or next(iter(found))
    unknown = set(options.only) - set(scenarios.ALL)
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(sorted(unknown))}")
    peers, left_out = ({}, {}) if options.peers == ["none"] else choose(options.peers)
    bench = Bench(
        *(options.quick, found[version], version, rabbitmq.find_server(), peers, left_out),
        conf=dict(options.conf),
        rounds=options.rounds,
        budget=min(options.budget, 5) if options.quick else options.budget,
        waiting=int(options.waiting),
    )
    for name, why in left_out.items():
        say(f"{name} is left out: {why}")
    try:
        for name, scenario in scenarios.ALL.items():
            if name not in options.only if options.only else options.quick and scenario in scenarios.LONG:
                continue
            begun = time.monotonic()
            say(name)
            rows: list[Row] = []
            try:
                rows.extend(scenario.run(bench))
            except Exception as exc:
                # the others are worth their hours all the same
                failed.append(name)
                say(f"{name} failed: {exc!r}")
                traceback.print_exc()
            results.save(options.results, name, bench, rows)
            say(f"{name}: {time.monotonic() - begun:.0f} s")
    finally:
        bench.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())

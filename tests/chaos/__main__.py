"""`make chaos MINUTES=2`: a run, its ledger, and exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import CATALOGUE, GAP, IN_PLACE
from tests.chaos.report import table
from tests.chaos.run import run
from tests.chaos.stage import Setting


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="of faults; starting and draining come on top"
    )
    parser.add_argument("--seed", type=int, help="of a run that is to happen again")
    parser.add_argument("--timers", type=int, help="default: 60 a second")
    parser.add_argument("--delay", type=float, help="the longest delay, seconds")
    parser.add_argument("--broker", choices=("redis", "amqp", "store"), default="redis")
    parser.add_argument("--faults", help="only these, with commas between them; `none` for none")
    parser.add_argument(
        "--gap", type=float, default=GAP, help="seconds from one fault to the next, on average"
    )
    parser.add_argument("--no-peer", action="store_true", help="without apply_async(countdown=…) beside it")
    parser.add_argument("--peer-acks-late", action="store_true")
    parser.add_argument("--sabotage", choices=("lose", "double"), help="do what must be found")
    parser.add_argument("--json", type=Path, help="write all that is known to this file")
    parser.add_argument("--keep", type=Path, help="the folder for the logs, kept")
    parser.add_argument("--list", action="store_true", help="the faults there are, and nothing else")
    options = parser.parse_args()
    if options.list:
        for kind in CATALOGUE:
            print(f"{kind.__name__:22} {kind.does}{' (a timer may come twice)' if kind.doubles else ''}")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    seconds = options.minutes * 60
    setting = Setting(
        seed=seed,
        seconds=seconds,
        timers=options.timers or int(seconds * 60),
        delay=options.delay or max(5.0, min(45.0, seconds / 4)),
        broker=options.broker,
        peer=not options.no_peer,
        peer_acks_late=options.peer_acks_late,
    )
    kinds = IN_PLACE if options.broker == "store" else CATALOGUE
    if options.faults:
        known = {kind.__name__: kind for kind in CATALOGUE}
        kinds = tuple(known[name] for name in options.faults.split(",") if name != "none")
    with tempfile.TemporaryDirectory(prefix="expiry-chaos-") as folder:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        report = run(
            setting,
            options.keep or Path(folder),
            kinds=kinds,
            gap=options.gap,
            sabotage=[options.sabotage] if options.sabotage else [],
            say=lambda line: print(line, flush=True),
        )
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report.as_dict(), indent=1))
    return 1 if report.ours.broken else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # what was started is ended, also where a shell had SIGINT ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

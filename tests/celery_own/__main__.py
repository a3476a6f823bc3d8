"""Run Celery's own integration tests without us, and with every countdown a timer; tell both as a table.

They come from the source distribution of the installed Celery, and are run unchanged: its own configuration
file sets the threshold, and pytest's `-p` imports the package. Both run at once, on servers of their own, for
half an hour and more. Logs are kept in the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import celery

from tests.celery_own.run import CONCERNED, Kind, run
from tests.celery_own.sdist import fetch
from tests.celery_own.table import table
from tests.servers.redis import REPOSITORY


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.celery_own",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--broker", choices=("redis", "amqp"), default="redis")
    parser.add_argument("-k", dest="expression", default=CONCERNED, help="other tests, as pytest takes it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting with us")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "celery-own")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tests = fetch(options.folder)
    settings: dict[str, Any] = {"expiry_countdown_threshold": 0}
    for each in options.set:
        name, _, value = each.partition("=")
        settings[name] = json.loads(value)
    kinds = {
        "without us": Kind(options.broker, options.expression, None),
        "with us": Kind(options.broker, options.expression, settings),
    }
    with ThreadPoolExecutor() as pool:
        runs = pool.map(lambda kind: run(tests, options.folder, kind), kinds.values())
        told = table(dict(zip(kinds, runs, strict=True)))
    print(f"Celery {celery.__version__}, broker {options.broker}\n\n{told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

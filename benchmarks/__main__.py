"""`make bench`: every scenario, ours and a peer's in the same run, into benchmarks/results/RESULTS.md."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import firing, idle, lateness, own_keys, scheduling
from tests.servers.redis import binaries

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, under three minutes")
    parser.add_argument("--only", choices=("lateness", "scheduling", "firing", "idle", "own_keys"))
    options = parser.parse_args()
    found = binaries()
    if not found:
        parser.error("no redis-server: install one, or run .ci/fetch_redis.py")
    redis_version, binary = next(iter(found.items()))
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    lines = [
        "# Results",
        "",
        f"`make bench`{' (quick)' if options.quick else ''}: CPython {platform.python_version()}, "
        f"{packages}, Redis {redis_version}. Absolute times are this machine's; ratios travel better.",
    ]
    for scenario in (lateness, scheduling, firing, idle, own_keys):
        name = scenario.__name__.rpartition(".")[2]
        if options.only in (None, name):
            print(f"{name} …", file=sys.stderr, flush=True)
            lines += ["", *scenario.run(binary, redis_version, quick=options.quick)]
    report = "\n".join(lines) + "\n"
    print(report)
    if options.only is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "RESULTS.md").write_text(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())

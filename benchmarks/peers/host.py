"""What runs in a peer's environment: `python -m benchmarks.peers.host <adapter> <role>`.

The role `client` takes commands from its input, one JSON object a line, and answers each with one: what it
did, and the seconds it took, measured here, so that the way to this process is no part of them. Every other
role is a worker's.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from typing import Any

from benchmarks.peers.base import Adapter
from benchmarks.place import Place

#: How many jobs are scheduled between two looks at the clock, one by one and many at once.
CHUNKS = {"one": 100, "many": 500}


def main() -> None:
    name, role = sys.argv[1:]
    adapter: Adapter = importlib.import_module(f"benchmarks.peers.{name}").Peer(Place.here())
    if role == "client":
        serve(adapter)
    else:
        adapter.work(role)


def serve(adapter: Adapter) -> None:
    # what a library prints goes to the log; the answers go where the harness reads
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"bulk": adapter.bulk}), file=answers)
    for line in sys.stdin:
        try:
            answer = obey(adapter, json.loads(line))
        except Exception as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"[:300]}
        print(json.dumps(answer), file=answers)


def obey(adapter: Adapter, command: dict[str, Any]) -> dict[str, Any]:
    """One command: `schedule` these items, `fill` with so many, `send` so many, `enqueue` one."""
    do = command["do"]
    started = time.perf_counter()
    adapter.queue = command.get("queue") or adapter.place.queue
    if do == "schedule":
        _ways(adapter)[command["way"]]([(label, at) for label, at in command["items"]])
        return {"seconds": time.perf_counter() - started, "done": len(command["items"])}
    if do == "fill":
        done = fill(adapter, **command["with"])
        return {"seconds": time.perf_counter() - started, "done": done}
    if do == "send":
        adapter.send([f"sent{number}" for number in range(command["count"])])
        return {"seconds": time.perf_counter() - started, "done": command["count"]}
    if do == "enqueue":
        adapter.enqueue(command["label"])
        return {}
    raise ValueError(f"no such command: {do}")


def fill(adapter: Adapter, count: int, way: str, delay: int, spread: int, budget: float) -> int:
    """Jobs that wait: so many, or as many as can be scheduled within `budget` seconds.

    Arguments:
        delay: seconds until the first is due.
        spread: seconds over which they fall due.
    """
    deadline = time.monotonic() + budget
    done = 0
    while done < count and time.monotonic() < deadline:
        now = int(time.time() * 1000)
        size = min(CHUNKS[way], count - done)
        first, last = now + delay * 1000, now + (delay + spread) * 1000
        items = [(f"wait{done + i}", random.randint(first, last)) for i in range(size)]
        _ways(adapter)[way](items)
        done += size
    return done


def _ways(adapter: Adapter) -> dict[str, Any]:
    return {"one": adapter.schedule, "many": adapter.schedule_many}


if __name__ == "__main__":
    main()

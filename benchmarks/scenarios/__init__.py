"""The scenarios, in the order of the report. Each module has:

- `TITLE`, `INTRO`: its heading, and what its figures mean;
- `COLUMNS`: which figures of a round the table shows, and their headings;
- `RATIO`: a figure, the row whose figure it is divided by in each case, and the heading; or None;
- `run(bench)`: the rows, as they are measured.
"""

from __future__ import annotations

from types import ModuleType

from benchmarks.scenarios import (
    burst,
    cluster,
    drop_in,
    event_loop,
    fairness,
    growth,
    idle,
    lateness,
    memory,
    own_keys,
    scheduling,
    workers,
)

_ORDER = (
    *(lateness, burst, fairness, scheduling, memory, idle, workers, cluster, growth, own_keys),
    *(event_loop, drop_in),
)
ALL: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in _ORDER}

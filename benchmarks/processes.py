"""What processes cost: the CPU time and the resident memory of one and of all it started (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def group(pid: int) -> Iterator[Path]:
    """The /proc folders of a session's processes: our children each lead a session of their own."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == pid:
                yield folder


def resident(pid: int) -> int:
    """Bytes of memory."""
    return sum(int((folder / "statm").read_text().split()[1]) * PAGE for folder in group(pid))


def cpu(pid: int) -> float:
    """Seconds of CPU, to the nanosecond where the kernel tells, since ticks of 10 ms miss what is short."""
    return sum(_cpu(folder) for folder in group(pid))


def _cpu(folder: Path) -> float:
    try:
        # of its threads that have ended nothing is told: a worker's live as long as it does
        return sum(int(each.read_text().split()[0]) for each in folder.glob("task/*/schedstat")) / 1e9
    except (OSError, IndexError, ValueError):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def available() -> int:
    """Bytes of memory that this machine could still give."""
    return _meminfo("MemAvailable")


def memory() -> int:
    """Bytes of memory that this machine has."""
    return _meminfo("MemTotal")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0

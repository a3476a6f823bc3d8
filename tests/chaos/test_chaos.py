"""A short run of the chaos suite; the long one is `make chaos`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.faults import IN_PLACE
from tests.chaos.report import table
from tests.chaos.run import run
from tests.chaos.stage import Setting
from tests.conftest import missing
from tests.servers.redis import FETCH_HINT, binaries


@pytest.fixture(autouse=True)
def servers() -> None:
    if not binaries():
        missing(f"no redis-server found: {FETCH_HINT}")


@pytest.mark.timeout(300)
def test_every_promise_is_kept(tmp_path: Path) -> None:
    """Nothing lost, nothing doubled but what the faults explain. CHAOS_SEED makes a run happen again."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"CHAOS_SEED={seed}")
    setting = Setting(seed=seed, seconds=40, timers=3000, delay=10, peer=False)
    report = run(setting, tmp_path, gap=1.5)
    print(table(report))
    assert not report.ours.broken
    # what a full store refused is no timer
    assert report.ours.executed > (setting.timers - report.ours.fates.get("refused", 0)) / 2


@pytest.mark.timeout(200)
def test_every_promise_is_kept_in_place(tmp_path: Path) -> None:
    """Timers and broker in one Redis: no fault makes a double there."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"CHAOS_SEED={seed}")
    setting = Setting(seed=seed, seconds=15, timers=1500, delay=5, broker="store", peer=False)
    report = run(setting, tmp_path, kinds=IN_PLACE, gap=1.0)
    print(table(report))
    assert not report.ours.broken
    # what a full store refused is no timer
    assert report.ours.executed > (setting.timers - report.ours.fates.get("refused", 0)) / 2


@pytest.mark.timeout(120)
def test_what_is_lost_or_doubled_is_found(tmp_path: Path) -> None:
    setting = Setting(seed=1, seconds=4, timers=400, delay=4, peer=False)
    report = run(setting, tmp_path, kinds=(), sabotage=("lose", "double"))
    print(table(report))
    assert report.ours.lost
    assert report.ours.unexplained

"""What the runs stand on: a clock that is wrong where it should be."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.chaos.stage import CLOCK

TOLD = """
import datetime, logging, time
from tests.chaos.load import now
moment = datetime.datetime.now(datetime.timezone.utc)
assert isinstance(moment, datetime.datetime) and isinstance(moment + datetime.timedelta(1), datetime.datetime)
naive = datetime.datetime.utcnow().replace(tzinfo=datetime.timezone.utc)
record = logging.makeLogRecord({"created": time.time()})
logging.Formatter("%(asctime)s").format(record)
print(time.time(), time.time_ns() / 1e9, moment.timestamp(), naive.timestamp(), now())
"""


@pytest.mark.parametrize("shift", [3600, -3600])
def test_a_wrong_clock(shift: int) -> None:
    env = {**os.environ, "CHAOS_CLOCK": str(shift)}
    env["PYTHONPATH"] = os.pathsep.join([str(CLOCK), str(CLOCK.parents[2])])
    began = time.time()
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TOLD],
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.split()
    *wrong, right = map(float, told)
    for moment in wrong:
        assert began <= moment - shift <= time.time()
    assert began <= right <= time.time(), "the machine's clock is asked past the wrong one"

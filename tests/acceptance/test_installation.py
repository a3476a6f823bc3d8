"""What ships: a built wheel in an empty environment beside a foreign app, and the demo."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.processes import Process
from tests.servers.redis import REPOSITORY, RedisServer
from tests.waiting import eventually

APP = """
from celery import Celery
app = Celery("foreign", broker="{url}", backend="{url}")
@app.task
def add(x, y):
    return x + y
"""

USE = """
from foreign import add
from celery_redis_expiry import schedule_on_expiry
print(schedule_on_expiry(add.s(2, 2), seconds=0.5).get(timeout=30))
"""


def run(*command: str | Path, cwd: Path, timeout: float = 240) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.timeout(400)
def test_a_wheel_beside_a_foreign_app(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    redis = start_redis()
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        tmp_path / "dist",
        REPOSITORY,
        cwd=tmp_path,
    )
    [wheel] = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    (tmp_path / "foreign.py").write_text(APP.format(url=redis.url()))

    assert "expiry" in run(binaries / "celery", "worker", "--help", cwd=tmp_path)
    workers = [
        Process(
            [
                str(binaries / "celery"),
                "-A",
                "foreign",
                "worker",
                "-l",
                "INFO",
                "-n",
                f"{pool}@wheel",
                "-P",
                pool,
            ],
            log=tmp_path / f"{pool}.log",
            cwd=tmp_path,
        )
        for pool in ("expiry", "solo")
    ]
    try:
        for worker in workers:
            eventually(lambda worker=worker: " ready." in worker.text(), timeout=40, what=worker.tail)
        assert run(binaries / "python", "-c", USE, cwd=tmp_path).strip() == "4"
    finally:
        for worker in workers:
            worker.stop()
        redis.remove()


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("sabotage", "code"), [(None, 0), ("lose", 1), ("double", 1)])
def test_the_demo_tells_the_truth(sabotage: str | None, code: int) -> None:
    command = [
        sys.executable,
        "example_project/demo",
        "--referrals",
        "120",
        "--min-delay",
        "1",
        "--max-delay",
        "2",
    ]
    if sabotage:
        command += ["--sabotage", sabotage]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=150)
    assert done.returncode == code, done.stdout + done.stderr

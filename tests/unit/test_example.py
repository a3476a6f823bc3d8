"""The example project's own tests, by the runner that a Django project uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.redis import REPOSITORY


@pytest.mark.parametrize("command", [["test"], ["makemigrations", "--check"]], ids=lambda command: command[0])
def test_the_example(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=REPOSITORY / "example_project",
        env={**os.environ, "DB_PATH": str(tmp_path / "shop.sqlite3")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Real `celery worker` processes for the tests, ready when they say so and gone when the test is over."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers.processes import Process
from tests.waiting import eventually

APPS = Path(__file__).resolve().parents[1] / "apps"
EXPIRY_READY = r"expiry: watching "
CELERY_READY = r"\bready\."


def environment(config: dict[str, Any]) -> dict[str, str]:
    """What a process needs to be a part of the app that `config` describes (see apps/ledger_app.py)."""
    path = os.pathsep.join(part for part in (str(APPS), os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, "PYTHONPATH": path, "LEDGER_APP": json.dumps(config), "PYTHONUNBUFFERED": "1"}


class Worker:
    """One worker process: `-P expiry` for the dedicated one, anything else for those that run tasks."""

    def __init__(self, config: dict[str, Any], folder: Path, name: str, *options: str) -> None:
        self.name = name
        self.hostname = f"{name}@test"
        self.expiry = "expiry" in options
        self.folder = folder
        command = [sys.executable, "-m", "celery", "-A", "ledger_app:app", "worker", "-l", "INFO"]
        command += ["-n", self.hostname, "--without-mingle", *options]
        self.process = Process(command, log=folder / f"{name}.log", env=environment(config), cwd=folder)

    def wait_ready(self, timeout: float = 30) -> Worker:
        """Until it takes work: the expiry worker once it watches, any worker once Celery calls it ready."""
        if self.expiry:
            self.wait_for(EXPIRY_READY, timeout)
        self.wait_for(CELERY_READY, timeout)
        return self

    def wait_for(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """Until a line of the log matches; the end of the log is told where none does."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.process.text(), re.IGNORECASE)
            if found is None and not self.process.running:
                code = self.process.popen.returncode
                raise AssertionError(f"{self.name} ended ({code}) before {pattern!r}\n{self.process.tail()}")
            return found

        return eventually(
            look, timeout=timeout, every=0.05, what=lambda: f"{pattern!r}\n{self.process.tail()}"
        )

    @property
    def log(self) -> str:
        return self.process.text()

    def stop(self, timeout: float = 20) -> int:
        """Warm shutdown; answers the exit code."""
        return self.process.stop(timeout)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()


def celery(
    config: dict[str, Any], folder: Path, *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one celery command to its end, its output in `.stdout` (both streams)."""
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env=environment(config),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )

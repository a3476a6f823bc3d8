"""A real Flower beside the workers, unmodified: `celery flower` on a port of its own."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.processes import Process, free_port
from tests.waiting import eventually


class Flower:
    """One Flower process.

    Arguments:
        app: as for `celery -A`.
        env: what its process needs to find the app and its broker.
        options: Flower's own: `--persistent=True`.
    """

    def __init__(self, app: str, folder: Path, *options: str, env: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "celery", "-A", app, "flower"]
        command += ["--address=127.0.0.1", f"--port={self.port}", *options]
        # Its buttons call its HTTP API, which it refuses to whoever has not logged in, unless told otherwise.
        env = {**env, "FLOWER_UNAUTHENTICATED_API": "true"}
        self.process = Process(command, log=folder / "flower.log", env=env, cwd=folder)

    def wait_ready(self, timeout: float = 30) -> Flower:
        """Until it answers over HTTP."""

        def look() -> bool:
            if not self.process.running:
                raise AssertionError(f"Flower ended\n{self.process.tail()}")
            try:
                return self.request("GET", "/healthcheck")[0] == 200
            except OSError:
                return False

        eventually(look, timeout=timeout, every=0.05, what=lambda: f"Flower\n{self.process.tail()}")
        return self

    def request(self, method: str, path: str) -> tuple[int, str]:
        """What it answers over HTTP: status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def task(self, id: str) -> dict[str, Any]:
        """What its HTTP API tells of a task; nothing of one it does not know."""
        status, text = self.request("GET", f"/api/task/info/{id}")
        told: dict[str, Any] = json.loads(text) if status == 200 else {}
        return told

    def stop(self) -> int:
        return self.process.stop()

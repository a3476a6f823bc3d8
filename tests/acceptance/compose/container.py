"""One replica of a service as a process: its own command, its own health check, its own end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.compose.image import Stage
from tests.acceptance.compose.project import Service, seconds
from tests.conftest import missing, redis_binary
from tests.servers.processes import Process
from tests.waiting import eventually

#: Seconds; how long something may take to start here, where several things start at once.
PATIENCE = 60.0
Ports = Mapping[tuple[str, int], int]


class Container:
    """A replica, with what the container engine would give it: host names, ports, volumes, environment.

    Arguments:
        image: what the service's image is built from; None for an image of others.
        ports: (service, its port) to the local port that stands for it.
        folder: has `app` (the image's files), `volumes`, and gets a folder for this replica alone.
    """

    def __init__(
        self, service: Service, number: int, *, image: Stage | None, ports: Ports, folder: Path
    ) -> None:
        self.service = service
        self.name = f"{service.name}-{number}"
        self._ports = ports
        self._own = folder / self.name
        self._own.mkdir()
        self._paths = {path: self._own / path.lstrip("/") for path in service.spec.get("tmpfs", ())}
        self._paths |= {path: folder / "volumes" / name for path, name in service.mounts.items()}
        for path in self._paths.values():
            path.mkdir(parents=True, exist_ok=True)
        command = service.command or (image.command if image else [])
        self._command = self._arguments(command)
        self._cwd = folder / "app" if image else self._paths.get("/data", self._own)
        environment = {**(image.env if image else {}), **service.environment}
        self.environment = {name: self._translated(value) for name, value in environment.items()}
        # Nothing of this process's own environment: what a container lacks shall be missing here, too.
        self.environment |= {
            "PATH": _search_path(),
            "HOSTNAME": self.name,
            "HOME": "/nonexistent",
            "TMPDIR": str(self._paths.get("/tmp", self._own)),
        }
        self.process: Process | None = None

    def start(self) -> None:
        self.process = Process(self._command, log=self._own / "log", env=self.environment, cwd=self._cwd)

    def is_healthy(self) -> bool:
        """Run the service's health check once."""
        try:
            done = self.run(self.service.health_command, timeout=seconds(self.service.healthcheck["timeout"]))
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def run(self, command: list[str], *, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """`docker compose exec`: a command beside the service's own, its output in `.stdout`."""
        return subprocess.run(
            self._arguments(command),
            env=self.environment,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def wait_healthy(self) -> None:
        eventually(self._healthy_or_ended, timeout=PATIENCE, every=0.2, what=self.tail)

    def _healthy_or_ended(self) -> bool:
        assert self.process is not None
        assert self.process.running, f"{self.name} ended\n{self.tail()}"
        return self.is_healthy()

    def wait_completed(self) -> None:
        assert self.process is not None
        assert self.process.wait(PATIENCE) == 0, self.tail()

    def ask_to_stop(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGTERM)

    def wait_stopped(self) -> int:
        """The exit code; an error if the grace period is not enough."""
        assert self.process is not None
        return self.process.wait(self.service.grace)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def tail(self) -> str:
        return f"log of {self.name}:\n" + (self.process.tail() if self.process else "it was not started")

    # -- what the network and the volumes do

    def _arguments(self, command: list[str]) -> list[str]:
        arguments = [self._translated(argument) for argument in command]
        if arguments and arguments[0] == "redis-server":
            # It is told neither port nor folder, because the image's are right.
            arguments += ["--port", str(self._ports[self.service.name, 6379]), "--bind", "127.0.0.1"]
        return arguments

    def _translated(self, text: str) -> str:
        for (name, port), local in self._ports.items():
            text = re.sub(rf"\b{name}:{port}\b", f"127.0.0.1:{local}", text)
            if name == self.service.name:
                text = re.sub(rf"(?<![\d.]){port}(?!\d)", str(local), text)
        for path, place in self._paths.items():
            text = re.sub(rf"(?<![\w/.]){path}(?![\w.])", str(place), text)
        return text.replace("0.0.0.0", "127.0.0.1").replace("%h", self.name)


def _search_path() -> str:
    """Where the programs are that the images bring: the Redis under test, and what is installed beside us."""
    cli = shutil.which("redis-cli")
    if cli is None:
        missing("no redis-cli found: install redis-tools")
    installed = Path(sys.executable).parent
    for name in ("gunicorn", "celery"):
        if not (installed / name).exists():
            missing(f"no {name} beside {sys.executable}: pip install -e '.[test,flower]'")
    return os.pathsep.join([str(redis_binary()[0].parent), str(installed), str(Path(cli).parent), os.defpath])

"""Shell blocks: run by bash as they stand, where every command that they may use is one of ours.

The PATH holds nothing but a door for each command in `commands.RULES`: one without a rule is not found, and
the test fails. Behind the doors is one process that has imported Celery already and forks for each command:
there are dozens of them, and each start of Python and Celery takes a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs import door
from tests.docs.blocks import Block
from tests.docs.commands import RULES
from tests.docs.example import EXAMPLE
from tests.servers.processes import Process, free_port
from tests.servers.redis import REPOSITORY, RedisServer
from tests.servers.workers import APPS
from tests.waiting import eventually

BASH = "/bin/bash"
#: The ports that the example's README names, so that tests side by side don't meet there.
PORTS = (8000, 8025)


class Shell:
    """A place to type commands in: a Redis, a folder to write to, a PATH of doors."""

    def __init__(self, redis: RedisServer, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "door"
        path = folder / "bin"
        path.mkdir()
        for command in RULES:
            executable = path / command
            executable.write_text(f'#!/bin/sh\nexec "$PYTHON" -SE {door.__file__} {command} "$@"\n')
            executable.chmod(0o755)
        ports = {str(port): str(free_port()) for port in PORTS}
        self.environment = {
            "HOME": str(folder),
            "PATH": str(path),
            "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, APPS, EXAMPLE))),
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
            "DOOR": str(self.socket),
            "PORTS": " ".join(f"{port}:{free}" for port, free in ports.items()),
            "PROJ_REDIS": redis.url(),
            "REDIS_URL": redis.url(),
            "DB_PATH": str(folder / "db.sqlite3"),
            "SMS_GATEWAY_URL": f"http://localhost:{ports['8025']}",
        }
        command = [sys.executable, "-m", "tests.docs.commands", str(self.socket)]
        self.process = Process(command, log=folder / "commands.log", env=self.environment, cwd=folder)
        eventually(self.socket.exists, what=lambda: f"the doors\n{self.process.tail()}")

    def run(self, block: Block, files: dict[str, str]) -> None:
        """Run a block to its end, with the page's files beside it; a question is answered with yes."""
        here = self.folder / block.page.replace("/", "_")
        here.mkdir(exist_ok=True)
        for name, content in files.items():
            (here / name).write_text(content)
        done = subprocess.run(
            [BASH, "-e", "-u", "-o", "pipefail", "-c", block.code],
            cwd=here,
            env=self.environment | {"PAGE": block.page},
            input="y\n" * 20,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (
            f"{block.place}: exit code {done.returncode}\n{block.code}\n{done.stdout}"
        )

    def close(self) -> None:
        self.process.kill()

"""The example project on real processes: gateway, web server, expiry worker, ordinary worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.servers.processes import Process, free_port
from tests.servers.redis import REPOSITORY, RedisServer
from tests.waiting import eventually

EXAMPLE = REPOSITORY / "example_project"
WORKERS = {
    "expiry": ["-P", "expiry"],
    "worker": ["-P", "threads", "-c", "2"],
}


class Shop:
    """The shop as `example_project/README.md` has it started, on a Redis of the test's.

    Arguments:
        folder: where its database and logs are.
        settings: what its processes find in their environment besides.

    Attributes:
        env: of every process in it.
    """

    def __init__(self, server: RedisServer, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._server = server
        self._web, self._gateway = free_port(), free_port()
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "BROKER"))
        }
        self.env = inherited | {
            "DB_PATH": str(folder / "shop.sqlite3"),
            "REDIS_URL": server.url(),
            "SMS_GATEWAY_URL": f"http://127.0.0.1:{self._gateway}",
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self.processes: dict[str, Process] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._web}"

    def start(self) -> Shop:
        """Everything at once, and wait until all of it is ready."""
        self.start_gateway()
        for name, pool in WORKERS.items():
            options = ["-n", f"{name}@shop", "-l", "INFO", "--without-mingle", *pool]
            self._start(name, "-m", "celery", "-A", "shop", "worker", *options)
        self.manage("migrate", "-v0")
        self._start("web", "manage.py", "runserver", "--noreload", str(self._web))
        for name, ready in (("web", "Quit the server"), ("expiry", "ready."), ("worker", "ready.")):
            self._wait(name, ready)
        return self

    def start_gateway(self) -> None:
        self._start("gateway", "gateway.py", "--port", str(self._gateway))
        self._wait("gateway", "SMS gateway on")

    def manage(self, *arguments: str) -> str:
        """Run a command of manage.py, and answer what it said."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=EXAMPLE,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refer(self, phone: str, delay: float, referrer: str = "Ann") -> int:
        """As curl does; the referral's number."""
        form = urlencode({"referrer": referrer, "phone": phone, "delay": delay}).encode()
        with urlopen(f"{self.url}/referrals", form, timeout=10) as response:
            return int(json.load(response)["id"])

    def sign_up(self, number: int) -> None:
        urlopen(f"{self.url}/referrals/{number}/sign-up", b"", timeout=10).close()

    def look(self, number: int) -> dict[str, Any]:
        """The referral with its timer, as curl sees it."""
        with urlopen(f"{self.url}/referrals/{number}", timeout=10) as response:
            told: dict[str, Any] = json.load(response)
            return told

    def damage(self, number: int) -> None:
        """Make the timer of a referral one that a later release has stored: this one can't publish it."""
        shard, _, member = self.look(number)["timer_key"].partition(":trigger:")
        with self._server.raw_client() as client:
            assert client.hset(f"{shard}:timers", member, b"9:1:xfrom the future") == 0, "it fired already"

    def dead_letters(self) -> int:
        with self._server.client() as client:
            return sum(client.zcard(key) for key in client.scan_iter("{expiry.shop.*}:dead"))

    def texts(self, phone: str) -> list[dict[str, Any]]:
        """The text messages that this phone was sent."""
        with urlopen(f"http://127.0.0.1:{self._gateway}/messages", timeout=10) as response:
            return [message for message in json.load(response) if message["to"] == phone]

    def log(self) -> tuple[str, str]:
        """For a test that fails."""
        return "the shop", "\n".join(f"--- {name}\n{one.tail(25)}" for name, one in self.processes.items())

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()

    def _start(self, name: str, *command: str) -> None:
        log = self.folder / f"{name}.log"
        self.processes[name] = Process([sys.executable, *command], log=log, env=self.env, cwd=EXAMPLE)

    def _wait(self, name: str, ready: str) -> None:
        process = self.processes[name]

        def is_ready() -> bool:
            assert process.running, f"{name} ended\n{process.tail()}"
            return ready in process.text()

        eventually(is_ready, timeout=40, every=0.05, what=lambda: f"{name} ready\n{process.tail()}")

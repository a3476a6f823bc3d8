"""A child process with its own group, its output in a file, and a certain end."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_alive: set[Process] = set()
#: Ports that `free_port` told.
_given: set[int] = set()


class Process:
    """One child and everything it starts; output goes to `log`, nothing of it outlives the test run."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        _alive.add(self)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process itself, not its group: a warm shutdown is the parent's affair."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for the end and answer the exit code; `subprocess.TimeoutExpired` after `timeout` seconds."""
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End the whole group at once, as a power cut would, and reap the child."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)
        _alive.discard(self)

    def stop(self, timeout: float = 15.0) -> int:
        """Ask for the end, insist after `timeout` seconds, and answer the exit code."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout)
        self.kill()
        return self.popen.returncode

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.text().splitlines()[-lines:])


def free_port() -> int:
    """A TCP port nobody listens on at this moment, and nobody was given before.

    kombu's pools are the process's: a connection to an earlier test's server would be found in them, dead.
    """
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


@atexit.register
def _end_all() -> None:
    """The last net, for a run that ends without its fixtures' teardown."""
    for process in list(_alive):
        with contextlib.suppress(Exception):
            process.kill()

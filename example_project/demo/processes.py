"""Child processes with a certain end: none outlives the demo, however that ends."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

#: Seconds a process may take to get ready, on a slow machine.
PATIENCE = 60.0


class DemoError(Exception):
    """The demo can't go on; the message says why and what to do."""


class Interrupted(Exception):
    """Somebody wants the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Child:
    """A process in a session of its own: Ctrl-C goes to the demo alone, which ends its children in order."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path
    ) -> None:
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise DemoError, with the last the child said, if it is no more."""
        if self._popen.poll() is not None:
            raise DemoError(
                f"{self.name} ended with code {self._popen.returncode}. Its last words:\n{self.tail()}"
            )

    def has_said(self, words: str) -> bool:
        return words in self.log.read_text(errors="replace")

    def tail(self, lines: int = 25) -> str:
        return "\n".join("    " + line for line in self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, patience: float = 10.0) -> None:
        """Ask for the end; after `patience` seconds insist, and take along whatever the child has started."""
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)


class Processes:
    """All children of the demo, and the wish to end it.

    A signal only leaves a note, read between two steps: raised right away, it could come between the start of
    a process and our knowing of it, or in the middle of clearing up.
    """

    def __init__(self, folder: Path, cwd: Path) -> None:
        self._folder, self._cwd = folder, cwd
        self._children: list[Child] = []
        self._signal: int | None = None

    def listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def start(self, name: str, command: Sequence[str], *, ready: str, env: Mapping[str, str]) -> None:
        """Start a child and wait until its log says that it is ready."""
        child = Child(name, command, self._folder / f"{name.replace(' ', '-')}.log", env, self._cwd)
        self._children.append(child)
        end = time.monotonic() + PATIENCE
        while not child.has_said(ready):
            self.check()
            if time.monotonic() > end:
                raise DemoError(f"{name} was not ready after {PATIENCE:g} s. Its last words:\n{child.tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise Interrupted or DemoError if the demo must end now. Every loop of the demo comes by here."""
        if self._signal is not None:
            raise Interrupted(self._signal)
        for child in self._children:
            child.check()

    def stop(self) -> None:
        """End them all, the last started first, so that nobody misses a server on its way out."""
        while self._children:
            self._children[-1].stop()
            self._children.pop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


def free_ports(count: int) -> list[int]:
    """TCP ports nobody listens on; held together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]

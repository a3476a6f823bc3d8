"""The harness's end of a peer's client process: a command there, an answer back (see peers/host.py)."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import REPOSITORY, Peer


class PeerFailed(Exception):
    """A peer can't do what it is asked, or does not answer; the message says what it said."""


class Client:
    """One process that schedules. `ask` begins a command, `answer` waits for its end."""

    def __init__(self, peer: Peer, environment: Mapping[str, str], log: Path) -> None:
        self.title = peer.title
        self.log = log
        self._output = log.open("ab")
        self._process = subprocess.Popen(
            peer.command("client"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            env=dict(environment),
            cwd=REPOSITORY,
            text=True,
        )
        self.bulk = bool(self.answer(60)["bulk"])

    @property
    def way(self) -> str:
        """The faster of its ways to schedule."""
        return "many" if self.bulk else "one"

    def schedule(self, items: Sequence[tuple[str, int]], timeout: float = 300, **more: Any) -> dict[str, Any]:
        """These labels at these moments, ms since the epoch."""
        return self.do(timeout, do="schedule", way=self.way, items=items, **more)

    def fill(self, count: int, budget: float, *, way: str | None = None, delay: int = 500_000) -> int:
        """Jobs that wait for days; answers how many could be scheduled within `budget` seconds."""
        return int(self.do(budget + 60, **filling(count, budget, way or self.way, delay))["done"])

    def enqueue(self, label: str) -> None:
        """One that runs at once."""
        self.do(60, do="enqueue", label=label)

    def do(self, timeout: float, **command: Any) -> dict[str, Any]:
        self.ask(**command)
        return self.answer(timeout)

    def ask(self, **command: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._told()) from None

    def answer(self, timeout: float) -> dict[str, Any]:
        """What it answers to the oldest command not yet answered; PeerFailed after `timeout` seconds."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise PeerFailed(f"{self.title}: no answer within {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(self._told())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._output.close()

    def _told(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{self.title}: its client ended: {lines[-1][:200] if lines else 'it said nothing'}"


def filling(count: int, budget: float, way: str, delay: int = 500_000) -> dict[str, Any]:
    """The command for jobs that wait: due `delay` seconds from now, spread over a day."""
    how = {"count": count, "way": way, "delay": delay, "spread": 86_400, "budget": budget}
    return {"do": "fill", "with": how}

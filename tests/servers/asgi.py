"""An ASGI app served by uvicorn in a process of its own, and those who ask it, many at a time."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.servers.processes import Process, free_port
from tests.servers.workers import environment
from tests.waiting import eventually

#: Seconds for one answer.
PATIENCE = 60


class ASGIServer:
    """`tests/apps/asgi_app.py` over the Celery app that `config` describes (see apps/ledger_app.py)."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "asgi_app:api", "--port", str(self.port)]
        command += ["--no-access-log"]
        self.process = Process(command, log=folder / "asgi.log", env=environment(config), cwd=folder)

    def wait_ready(self, timeout: float = 30) -> ASGIServer:
        eventually(
            lambda: "Uvicorn running" in self.process.text() or not self.process.running,
            timeout=timeout,
            every=0.05,
            what=lambda: f"uvicorn\n{self.process.tail()}",
        )
        assert self.process.running, self.process.tail()
        return self

    def ask(self, *requests: str, clients: int = 1) -> list[Any]:
        """What it answers to requests such as "POST /path", in order, `clients` of them at a time."""
        return asyncio.run(self._ask_all(requests, clients))

    async def _ask_all(self, requests: Iterable[str], clients: int) -> list[Any]:
        answers: dict[int, Any] = {}
        todo = iter(enumerate(requests))

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for number, request in todo:
                    writer.write(f"{request} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n".encode())
                    answers[number] = await asyncio.wait_for(_answer(reader), PATIENCE)
            finally:
                writer.close()

        await asyncio.gather(*(client() for _ in range(clients)))
        return [answers[number] for number in sorted(answers)]


async def _answer(reader: asyncio.StreamReader) -> Any:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]))
    assert " 200 " in status, (status, body)
    return json.loads(body)

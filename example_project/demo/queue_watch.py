"""What enters the broker's queue, and when, told by Redis itself (MONITOR), not by those who are judged."""

import json
import re
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

_PUSH = re.compile(rb'\+(\d+\.\d+) \[[^\]]*\] "[lr]push" "celery" (.*)\r\n', re.IGNORECASE)
_ARGUMENT = re.compile(rb'"(?:[^"\\]|\\.)*"')


@dataclass
class QueueWatch:
    """Notes when the message of every task came into the queue; what a task's retries send is told apart.

    MONITOR costs a server much of its speed: right for a demo, wrong in production.
    """

    port: int
    fired: dict[str, list[float]] = field(default_factory=dict)
    retries: int = 0

    def start(self) -> None:
        """Watch until the server goes away."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        stream = connection.makefile("rb")
        connection.sendall(b"MONITOR\r\n")
        if stream.readline() != b"+OK\r\n":
            raise OSError("Redis does not let us MONITOR it")
        connection.settimeout(None)
        threading.Thread(target=self._watch, args=(connection, stream), daemon=True).start()

    def _watch(self, connection: socket.socket, stream: Any) -> None:
        with connection, stream:
            try:
                for line in stream:
                    self.read(line)
            except OSError:
                pass  # the server is gone, and the demo over

    def read(self, line: bytes) -> None:
        """Note the messages of one line of MONITOR's output, if it shows a push to the queue."""
        push = _PUSH.fullmatch(line)
        if push is None:
            return
        for argument in _ARGUMENT.findall(push[2]):
            headers = json.loads(json.loads(argument))["headers"]
            if headers.get("retries"):
                self.retries += 1
            else:
                self.fired.setdefault(headers["id"], []).append(float(push[1]))

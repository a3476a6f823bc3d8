"""A small SMS gateway for trying things out: it sends nothing and remembers everything.

POST /messages   takes {"to", "text"}; of requests with the same Idempotency-Key header the first counts
GET  /messages   what it has taken, as JSON; the newest N with ?last=N
GET  /stats      how often it has misbehaved, and how often it was asked the same again

Real gateways fail, and so does this one when told to: `--unreliable 50` refuses one request of 50, and takes
another one of 50 without answering. `--lose` and `--double` break its promise for one message in N, which no
sender can notice: they are there to see that the demo's check does.
"""

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Outbox:
    """What was taken, under one lock, with the misbehaviour that was asked for."""

    def __init__(self, *, unreliable: int = 0, lose: int = 0, double: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.stats = {"requests": 0, "refused": 0, "unanswered": 0, "repeats": 0}
        self._unreliable, self._lose, self._double = unreliable, lose, double
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    def take(self, to: str, text: str, key: str) -> int | None:
        """Take one message; the HTTP status to answer with, None for no answer at all."""
        with self._lock:
            self.stats["requests"] += 1
            turn = self.stats["requests"]
            if _is_turn(turn, self._unreliable):
                self.stats["refused"] += 1
                return 503
            if key in self._keys:
                self.stats["repeats"] += 1
                return 200
            self._keys.add(key)
            message = {"to": to, "text": text, "key": key, "received_at": time.time()}
            if not _is_turn(len(self._keys), self._lose):
                self.messages.append(message)
            if _is_turn(len(self._keys), self._double):
                self.messages.append(message)
            if _is_turn(turn + self._unreliable // 2, self._unreliable):
                self.stats["unanswered"] += 1
                return None
            return 201


def _is_turn(count: int, every: int) -> bool:
    return every > 0 and count % every == 0


class Handler(BaseHTTPRequestHandler):
    server: "Gateway"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            to, text = str(body["to"]), str(body["text"])
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"error": f"not a message: {error!r}"})
            return
        status = self.server.outbox.take(to, text, self.headers.get("Idempotency-Key") or f"{time.time_ns()}")
        if status is not None:
            self._answer(status, {})

    def do_GET(self) -> None:
        outbox, asked = self.server.outbox, urlsplit(self.path)
        if asked.path == "/messages":
            messages, last = list(outbox.messages), dict(parse_qsl(asked.query)).get("last", "")
            self._answer(200, messages[max(0, len(messages) - int(last)) :] if last.isdecimal() else messages)
        elif asked.path == "/stats":
            self._answer(200, {"messages": len(outbox.messages), **outbox.stats})
        else:
            self._answer(404, {"error": "there are /messages and /stats"})

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Gateway(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], outbox: Outbox) -> None:
        super().__init__(address, Handler)
        self.outbox = outbox


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8025)
    for fault in ("unreliable", "lose", "double"):
        parser.add_argument(f"--{fault}", type=int, default=0, metavar="N")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an end by request is no failure
    outbox = Outbox(unreliable=options.unreliable, lose=options.lose, double=options.double)
    with Gateway((options.host, options.port), outbox) as gateway:
        print(f"SMS gateway on http://{options.host}:{gateway.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            gateway.serve_forever()


if __name__ == "__main__":
    main()

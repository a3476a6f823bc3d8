"""The rules for what the example's README types: its programs are started for real, on ports of their own."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.waiting import eventually

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"
TOLD = "told.json"


def python(arguments: list[str]) -> int:
    """`manage.py` and the gateway run for real, servers in the background; the demo's options are checked."""
    os.chdir(EXAMPLE)
    match arguments:
        case ["-m", "demo", *options]:
            from demo.__main__ import _options

            sys.argv = ["demo", *options]
            _options()
            return 0
        case ["manage.py", "runserver"]:
            return _serve(8000, [*arguments, "--noreload", f"127.0.0.1:{port(8000)}"])
        case ["manage.py", *_]:
            return subprocess.run([sys.executable, *arguments], check=False).returncode
        case ["gateway.py"]:
            return _serve(8025, [*arguments, "--port", str(port(8025))])
    raise ValueError(f"no rule for python {arguments}")


def port(documented: int) -> int:
    """The free port that stands for the one of the page."""
    ports = dict(pair.split(":") for pair in os.environ["PORTS"].split())
    return int(ports[str(documented)])


def _serve(documented: int, arguments: list[str]) -> int:
    """Start a server that stays, until it listens; it ends with the group of the process behind the doors."""
    server = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )

    def listens() -> bool:
        assert server.poll() is None, f"{arguments} ended"
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port(documented))) == 0

    return int(not eventually(listens, what=f"{arguments} on port {documented}"))


def curl(arguments: list[str]) -> int:
    """One request, to the server that the page started; it must succeed."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-d", "--data", action="append", default=[])
    parser.add_argument("-X", "--request")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("url")
    options = parser.parse_args(arguments)
    url = re.sub(r":(\d+)", lambda match: f":{port(int(match[1]))}", options.url)
    request = urllib.request.Request(
        f"http://{url}", data="&".join(options.data).encode() or None, method=options.request
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        print(options.url, error, file=sys.stderr)
        return 1
    print(text)
    if text.startswith("{"):
        Path(TOLD).write_text(text)
    return 0


def told(name: str) -> str:
    """A field of the last JSON object that `curl` was answered."""
    return str(json.loads(Path(TOLD).read_text())[name])

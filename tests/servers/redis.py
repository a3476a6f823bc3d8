"""Private Redis servers: found in several versions, started on free ports in folders of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.processes import Process, free_port
from tests.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
NO_RETRY = Retry(NoBackoff(), 0)
FETCH_HINT = "install redis-server, or run `python .ci/fetch_redis.py`"


@cache
def binaries() -> dict[str, Path]:
    """The redis-server binaries here by short version ("7.0"): the PATH's first, then the fetched ones."""
    fetched = Path(os.environ.get("EXPIRY_REDIS_DIR") or REPOSITORY / ".venv" / "redis")
    on_path = shutil.which("redis-server")
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted(fetched.glob("*/redis-server"))
    found: dict[str, Path] = {}
    for binary in candidates:
        version = _version(binary)
        if version:
            found.setdefault(version, binary)
    return found


def _version(binary: Path) -> str | None:
    try:
        told = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+\.\d+)\.", told.stdout)
    return match.group(1) if match else None


class RedisServer:
    """One redis-server on a free port. `options` are its own, as in `appendonly="yes"`."""

    def __init__(self, binary: Path, version: str, **options: str) -> None:
        self.binary = binary
        self.version = version
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"expiry-redis-{version}-"))
        self.options = {"save": "", "appendonly": "no", "loglevel": "notice"} | options
        self.process: Process | None = None

    def url(self, database: int = 0, *, user: str = "", password: str = "", port: int | None = None) -> str:
        """The URL of one database, of another port where a proxy stands in front."""
        login = f"{user}:{password}@" if user or password else ""
        return f"redis://{login}127.0.0.1:{port or self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        return redis.Redis(
            port=self.port,
            db=database,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=10,
        )

    def raw_client(self, database: int = 0) -> redis.Redis:
        """One that answers bytes."""
        return redis.Redis(port=self.port, db=database, socket_timeout=10)

    def start(self, timeout: float = 20) -> RedisServer:
        """Up and loaded: what its folder holds is read first, which may take a while."""
        command = [
            str(self.binary),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
        ]
        for name, value in self.options.items():
            command += ["--" + name.replace("_", "-"), value]
        self.process = Process(command, log=self.folder / "redis.log")
        eventually(self._answers, timeout=timeout, what=lambda: f"Redis {self.version} ready\n{self.tail()}")
        return self

    def _answers(self) -> bool:
        if self.process is None or not self.process.running:
            raise AssertionError(f"Redis {self.version} ended at its start\n{self.tail()}")
        try:
            with redis.Redis(port=self.port, socket_timeout=1, retry=NO_RETRY) as client:
                return bool(client.ping())
        except redis.RedisError:  # not listening yet, or still loading its data
            return False

    def wait_replicated(self, replicas: int, timeout: float = 30) -> None:
        """Until so many replicas have everything that is here at this moment."""
        with self.client() as client:
            offset = client.info("replication")["master_repl_offset"]

            def have_it() -> bool:
                told: Any = client.info("replication")
                attached = [told.get(f"slave{number}", {}) for number in range(replicas)]
                return all(one.get("state") == "online" and one["offset"] >= offset for one in attached)

            eventually(have_it, timeout=timeout, what=lambda: f"{replicas} replicas\n{self.tail()}")

    def stop(self) -> None:
        """An orderly end: what persistence is configured is written."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process = None

    def restart(self) -> RedisServer:
        """Down and up again, same port, same folder: with what AOF kept, without what CONFIG SET changed."""
        self.stop()
        return self.start()

    def reset(self) -> None:
        """Forget everything a test may have left: data, configuration, users."""
        with self.client() as client:
            client.flushall()
        self.reset_configuration()

    def reset_configuration(self) -> None:
        with self.client() as client:
            client.config_set("notify-keyspace-events", "")
            client.config_set("maxmemory", "0")
            for user in client.acl_users():
                if user != "default":
                    client.acl_deluser(user)

    def tail(self) -> str:
        return self.process.tail(30) if self.process else ""

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

"""Sentinels: one before a single Redis, or three over a primary and its replicas, with failovers at will."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import redis
from redis import exceptions as redis_errors
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel as SentinelClient

from tests.servers.processes import Process, free_port
from tests.servers.redis import NO_RETRY, RedisServer
from tests.waiting import eventually

NAME = "main"
DOWN_AFTER_MS = 2000  # short, but a busy machine may not look like a dead primary


class Sentinel:
    """One sentinel that watches a Redis as `main`."""

    def __init__(self, server: RedisServer, *, quorum: int = 1, down_after_ms: int = 30_000) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="expiry-sentinel-"))
        config = self.folder / "sentinel.conf"  # sentinels write to theirs
        config.write_text(
            f"port {self.port}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {server.port} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}\n"
            f"sentinel failover-timeout {NAME} 6000\n"
            f"sentinel parallel-syncs {NAME} 2\n"
        )
        command = [str(server.binary), str(config), "--sentinel"]
        self.process = Process(command, log=self.folder / "sentinel.log", cwd=self.folder)
        eventually(self.knows, timeout=20, what=lambda: f"the sentinel knows {NAME}\n{self.process.tail()}")

    def ask(self, *words: str) -> Any:
        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=1, retry=NO_RETRY) as client:
            return client.execute_command("SENTINEL", *words)

    def knows(self) -> int | None:
        """The port of the primary, None while the sentinel does not answer."""
        try:
            return int(self.ask("GET-MASTER-ADDR-BY-NAME", NAME)[1])
        except redis.RedisError:
            return None

    def sees(self, replicas: int, sentinels: int) -> bool:
        """Whether a failover could be made: it knows so many healthy replicas and other sentinels.

        It asks each node for its role every ten seconds. One that remembers a role from before a failover
        would take the next one's new primary for an old primary come back, and make it a replica again.
        """
        try:
            primary = self.ask("MASTER", NAME)
            healthy = [one for one in self.ask("REPLICAS", NAME) if _is_steady(one, "slave")]
        except redis.RedisError:
            return False
        others = int(primary["num-other-sentinels"])
        return _is_steady(primary, "master") and others == sentinels and len(healthy) == replicas

    def remove(self) -> None:
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_steady(told: dict[str, Any], role: str) -> bool:
    flags = told["flags"]
    return (flags.split(",") if isinstance(flags, str) else list(flags)) == [role] == [told["role-reported"]]


class SentinelGroup:
    """A primary, its replicas and three sentinels; `options` go to every redis-server of it."""

    def __init__(self, binary: Path, version: str, *, replicas: int = 1, **options: str) -> None:
        options = {"repl_diskless_sync_delay": "0"} | options
        self.version = version
        self.servers = [RedisServer(binary, version, **options) for _ in range(1 + replicas)]
        self.sentinels: list[Sentinel] = []
        self._primary = self.servers[0]

    #: What a client needs beside the URL.
    options = {"master_name": NAME}

    def start(self) -> SentinelGroup:
        for server in self.servers:
            server.start()
        for replica in self.servers[1:]:
            with replica.client() as client:
                client.replicaof("127.0.0.1", str(self._primary.port))
        self.wait_in_step()
        self.sentinels = [Sentinel(self._primary, quorum=2, down_after_ms=DOWN_AFTER_MS) for _ in range(3)]
        self.wait_ready()
        return self

    # -- for those who connect

    def url(self, database: int = 0) -> str:
        doors = ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"{doors}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A client of whoever is the primary, patient while nobody is."""
        sentinel: Any = SentinelClient(
            [("127.0.0.1", sentinel.port) for sentinel in self.sentinels],
            sentinel_kwargs={"socket_timeout": 1, "retry": NO_RETRY},
        )
        patient: redis.Redis = sentinel.master_for(
            NAME,
            db=database,
            decode_responses=True,
            socket_timeout=2,
            retry=Retry(ConstantBackoff(0.2), 100),
            retry_on_error=[
                redis_errors.ConnectionError,
                redis_errors.TimeoutError,
                redis_errors.ReadOnlyError,
            ],
        )
        return patient

    # -- who is what

    def primary(self) -> RedisServer:
        """Who is the primary for all sentinels that answer."""
        return eventually(self._agreed, what=lambda: f"the sentinels agree\n{self.tail()}")

    def _agreed(self) -> RedisServer | None:
        ports = {sentinel.knows() for sentinel in self.sentinels} - {None}
        if len(ports) != 1:
            return None
        self._primary = next(server for server in self.servers if server.port in ports)
        return self._primary

    def replicas(self) -> list[RedisServer]:
        """The others, as far as they are up."""
        return [server for server in self.servers if server is not self._primary and server.process]

    def wait_in_step(self) -> None:
        """Until every replica that is up has what the primary has now."""
        self._primary.wait_replicated(len(self.replicas()))

    def wait_ready(self) -> None:
        """Until the sentinels could make a failover, with everything replicated."""
        count = len(self.replicas())
        eventually(
            lambda: all(sentinel.sees(count, 2) for sentinel in self.sentinels),
            timeout=40,
            every=0.1,
            what=lambda: f"every sentinel sees all\n{self.tail()}",
        )
        self.wait_in_step()

    # -- failovers

    def failover(self) -> RedisServer:
        """A planned one (SENTINEL FAILOVER); answers the new primary once all sentinels know it."""
        old = self.primary()

        def asked() -> bool:
            try:
                self.sentinels[0].ask("FAILOVER", NAME)
            except redis_errors.ResponseError:  # one is still in progress, or no replica is good enough yet
                return False
            return True

        eventually(asked, timeout=30, every=0.2, what=lambda: f"a failover begins\n{self.tail()}")
        return self._wait_promoted(old)

    def kill_primary(self) -> RedisServer:
        """kill -9; answers the new primary once all sentinels know it."""
        old = self.primary()
        old.kill()
        return self._wait_promoted(old)

    def _wait_promoted(self, old: RedisServer) -> RedisServer:
        def promoted() -> RedisServer | None:
            new = self._agreed()
            if new is None or new is old:
                return None
            with contextlib.suppress(redis.RedisError), new.client() as client:
                role: Any = client.execute_command("ROLE")
                if role[0] == "master":
                    return new
            return None

        return eventually(promoted, timeout=40, every=0.05, what=lambda: f"a new primary\n{self.tail()}")

    def return_as_replica(self, server: RedisServer) -> None:
        """Start one that was killed, and wait until the sentinels have made it a replica of the primary.

        It begins as the primary that it was: it takes the sentinels some seconds to demote it.
        """
        server.start()
        self.wait_demoted(server)

    def wait_demoted(self, server: RedisServer) -> None:
        primary = self.primary()

        def demoted() -> bool:
            with contextlib.suppress(redis.RedisError), server.client() as client:
                told: Any = client.info("replication")
                return bool(
                    told["role"] == "slave"
                    and told["master_port"] == primary.port
                    and told["master_link_status"] == "up"
                )
            return False

        eventually(demoted, timeout=40, every=0.1, what=lambda: f"the old primary replicates\n{self.tail()}")

    # -- the end

    def reset(self) -> None:
        """Everyone up, one primary, nothing stored."""
        self.primary()
        for server in self.servers:
            if server.process is None:
                self.return_as_replica(server)
        self.primary().reset()
        self.wait_ready()

    def tail(self) -> str:
        return "\n".join(
            process.tail(12)
            for process in (one.process for one in (*self.servers, *self.sentinels))
            if process
        )

    def remove(self) -> None:
        for sentinel in self.sentinels:
            sentinel.remove()
        for server in self.servers:
            server.remove()

"""One contestant on stage: its private servers, its client process, its workers; all gone at the end."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import Client, PeerFailed
from benchmarks.peers import REPOSITORY, Peer
from benchmarks.place import Place
from benchmarks.watch import LedgerWatch, QueueDepth, QueueWatch, wait
from tests.servers.processes import Process
from tests.servers.redis import RedisServer

_numbers = itertools.count(1)
#: See `Site.ready`.
READY = 90.0


class Site:
    """Where one contestant works.

    Attributes:
        place: what its processes are told.
        store: its Redis server.
        waiting: how many jobs wait there beyond those that are measured.
        ready: seconds within which a worker must run its first job, and one more for each thousand that wait.
    """

    def __init__(self, peer: Peer, place: Place, store: RedisServer, folder: Path) -> None:
        self.peer = peer
        self.place = place
        self.store = store
        self.folder = folder
        self.waiting = 0
        self.ready = READY
        self._clients = ExitStack()
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Its process that schedules, started at first use."""
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> Client:
        client = Client(self.peer, self.environment(), self.folder / f"client{next(_numbers)}.log")
        self._clients.callback(client.close)
        return client

    def environment(self) -> dict[str, str]:
        environment = self.place.environment() | {"PYTHONPATH": str(REPOSITORY)}
        if self.peer.environment:
            environment["NODE_PATH"] = str(self.peer.folder / "node_modules")
        return environment

    @contextmanager
    def working(
        self, roles: Sequence[str] = (), watch: type[LedgerWatch | QueueWatch | QueueDepth] = LedgerWatch
    ) -> Iterator[list[Process]]:
        """Its workers, up: a job has come through them, as far as the watch sees."""
        processes = [
            Process(self.peer.command(role), log=self.log(role), env=self.environment(), cwd=REPOSITORY)
            for role in roles or self.peer.roles
        ]
        try:
            self._wait_ready(processes, watch)
            yield processes
        finally:
            # a worker's end takes seconds, and matters only where jobs wait that the next one must find
            for process in processes if self.waiting else ():
                process.signal(signal.SIGTERM)
            for process in processes:
                process.stop(self.peer.patience) if self.waiting else process.kill()

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def _wait_ready(
        self, processes: list[Process], watch: type[LedgerWatch | QueueWatch | QueueDepth]
    ) -> None:
        deadline = time.time() + self.ready + self.waiting / 1_000
        sent = 0
        with watch(self.place) as seen:
            # a bare subscriber that is not there yet misses the first, as it would any other
            while not wait(lambda: seen.count() > 0, time.time() + (1 if sent else 0)):
                ended = [process for process in processes if not process.running]
                if ended or time.time() > deadline:
                    log = (ended or processes)[-1].tail(4)
                    raise PeerFailed(f"its worker {'ended' if ended else 'ran nothing'}: {log[-300:]}")
                self.client.enqueue("ready")
                sent += 1
            wait(lambda: seen.count() >= sent, time.time() + 2)

    def close(self) -> None:
        self._clients.close()


@contextmanager
def site(
    peer: Peer,
    store: RedisServer,
    *,
    broker: str | None = None,
    url: str | None = None,
    conf: dict[str, Any] | None = None,
) -> Iterator[Site]:
    """A site on servers that are up.

    Arguments:
        broker: URL of the broker; without it, the store.
        url: of the store, where it is not this one server (a Cluster).
        conf: settings, for those built on Celery.
    """
    folder = Path(tempfile.mkdtemp(prefix="expiry-bench-"))
    scheme = peer.scheme if broker is None and peer.scheme != "amqp" else "redis"
    default = store.url().replace("redis", scheme, 1)
    place = Place(
        url or store.url(), broker or default, str(folder / "ledger"), f"bench{next(_numbers)}", conf or {}
    )
    stage = Site(peer, place, store, folder)
    try:
        yield stage
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(binary: Path, version: str, dump: Path | None = None, **options: str) -> Iterator[RedisServer]:
    """A private Redis; with `dump`, what that file holds is in it."""
    store = RedisServer(binary, version, **options)
    try:
        if dump is not None:
            (store.folder / "dump.rdb").symlink_to(dump)
        yield store.start(300)
    finally:
        store.remove()

"""One Celery site as a test sees it: an app, its Redis, its workers, and the ledger of what ran."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ledger_app
import redis
from celery import Celery, _state
from celery.canvas import Signature

from celery_redis_expiry import schedule_on_expiry, store
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.servers.sentinel import SentinelGroup
from tests.servers.workers import Worker, celery
from tests.waiting import eventually

BACKEND_DB = 1
LEDGER_DB = 15
SENTINEL = "sentinel"
Run = dict[str, Any]
Timers = RedisServer | SentinelGroup | RedisCluster


class Site:
    """What a project is made of: the app, the Redis with its timers, the workers a test starts.

    Arguments:
        server: where the timers are; a group of servers, too (see tests/servers).
        beside: where broker, results and ledger are, unless they are with the timers.
        handlers: of users' own keys: see `ledger_app`.
    """

    def __init__(
        self,
        server: Timers,
        folder: Path,
        *,
        broker: str | None = None,
        beside: RedisServer | None = None,
        show_log: Callable[[Callable[[], tuple[str, str]]], None] = lambda log: None,
        main: str = ledger_app.MAIN,
        handlers: Sequence[dict[str, Any]] = (),
        **conf: Any,
    ) -> None:
        self.server = server
        self.beside: Any = beside or server
        self.folder = folder
        apart = broker or beside
        self.config: dict[str, Any] = {
            "main": main,
            "broker": broker or self.beside.url(),
            "backend": self.beside.url(BACKEND_DB),
            "ledger": self.beside.url(LEDGER_DB),
            "handlers": list(handlers),
            "conf": ({"expiry_redis_url": server.url()} if apart else {}) | conf,
        }
        self.app: Celery = ledger_app.build({**self.config, "current": False})
        self.redis: redis.Redis = server.client()
        self.queues: redis.Redis = (server if broker == server.url() else self.beside).client()
        self._ledger = self.beside.client(LEDGER_DB)
        self._workers: list[Worker] = []
        self._show_log = show_log

    # -- the app

    def task(self, name: str = "record") -> Any:
        return self.app.tasks[f"ledger.{name}"]

    def record(self, label: Any, *args: Any, **kwargs: Any) -> Signature:
        """The signature of a run that the ledger shows under `label`."""
        signature: Signature = self.task().s(label, *args, **kwargs)
        return signature

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the app the current one of this thread, and the default of others, for a while."""
        before = _state.default_app, _state._tls.current_app
        self.app.set_default()
        self.app.set_current()
        try:
            yield
        finally:
            _state.default_app, _state._tls.current_app = before

    # -- processes

    def worker(self, name: str, *options: str, ready: bool = True, **conf: Any) -> Worker:
        """Start a worker of this site, `conf` being settings of its own; it ends with the test."""
        config = {**self.config, "conf": {**self.config["conf"], **conf}}
        worker = Worker(config, self.folder, name, *options)
        self._workers.append(worker)
        self._show_log(lambda: (f"log of worker {name}", worker.process.tail()))
        return worker.wait_ready() if ready else worker

    def expiry(self, name: str = "expiry", *options: str, ready: bool = True, **conf: Any) -> Worker:
        return self.worker(name, "-P", "expiry", *options, ready=ready, **conf)

    def ordinary(self, name: str = "ordinary", *options: str, ready: bool = True, **conf: Any) -> Worker:
        return self.worker(name, "-P", "threads", "-c", "4", *options, ready=ready, **conf)

    def celery(self, *arguments: str, timeout: float = 60) -> str:
        return celery(self.config, self.folder, *arguments, timeout=timeout).stdout

    # -- Redis

    def key(self, name: str) -> str:
        """A key of the package as its documentation tells it."""
        return f"{{expiry.{self.config['main']}.0}}:{name}"

    def waiting(self) -> int:
        """How many timers the index holds."""
        return int(self.redis.zcard(self.key("due")))

    def stored(self) -> dict[str, int]:
        """Everything of ours that a fired timer must not leave behind, by key and size."""
        sizes = {
            "due": self.redis.zcard(self.key("due")),
            "claimed": self.redis.zcard(self.key("claimed")),
            "parked": self.redis.zcard(self.key("parked")),
            "timers": self.redis.hlen(self.key("timers")) - self.dead(),  # dead letters keep theirs
            "names": self.redis.hlen(self.key("names")),
            "ids": self.redis.hlen(self.key("ids")),
            "claims": self.redis.hlen(self.key("claims")),
            "trigger": sum(
                1 for _ in self.redis.scan_iter(self.key("trigger:*").replace("{", "?"), count=1000)
            ),
        }
        return {name: int(size) for name, size in sizes.items() if size}

    def dead(self) -> int:
        return int(self.redis.zcard(self.key("dead")))

    def now(self) -> float:
        seconds, micros = self.redis.time()
        return float(seconds + micros / 1e6)

    # -- the ledger

    def runs(self, label: Any = None) -> list[Run]:
        """What ran, in order; of one label, or everything but the sentinels."""
        runs = [json.loads(run) for run in self._ledger.lrange(ledger_app.RUNS, 0, -1)]
        if label is None:
            return [run for run in runs if run["label"] != SENTINEL]
        return [run for run in runs if run["label"] == label]

    def wait_run(self, label: Any, timeout: float = 20) -> Run:
        def look() -> list[Run]:
            return self.runs(label)

        return eventually(
            look, timeout=timeout, every=0.05, what=lambda: f"a run of {label!r}; ran: {self._told()}"
        )[0]

    def drain(self, count: int, timeout: float = 40) -> list[Run]:
        """Wait until `count` tasks ran and nothing is on its way any more; answer all runs.

        Exactly once can only be read off a ledger that nobody will write to again: nothing in the index or
        claimed, and a timer scheduled after that came through the expiry worker, the broker and a worker too.
        """
        eventually(
            lambda: self._ledger.llen(ledger_app.RUNS) >= count and len(self.runs()) >= count,
            timeout=timeout,
            every=0.1,
            what=lambda: f"{count} runs; {self.stored()} stored; ran: {self._told()}",
        )
        self.wait_forgotten()
        sentinels = len(self.runs(SENTINEL))
        schedule_on_expiry(self.record(SENTINEL), seconds=0)
        eventually(lambda: len(self.runs(SENTINEL)) > sentinels, what="the sentinel after the last timer")
        self.wait_forgotten()
        self.wait_broker_empty()
        return self.runs()

    def wait_forgotten(self, timeout: float = 20) -> None:
        """Until no timer is stored or claimed."""
        eventually(
            lambda: not self.stored(),
            timeout=timeout,
            what=lambda: f"nothing stored; there is {self.stored()}",
        )

    def wait_broker_empty(self, queue: str = "celery") -> None:
        """Until no message is queued or being worked on."""
        if self.config["broker"].startswith(("redis", "sentinel")):
            eventually(
                lambda: not self.queues.llen(queue) and not self.queues.hlen("unacked"), what="empty broker"
            )
        else:
            with self.app.connection_for_read() as connection:
                channel: Any = connection.default_channel
                eventually(
                    lambda: channel.queue_declare(queue, passive=True).message_count == 0, what="empty queue"
                )

    def _told(self) -> str:
        runs = Counter(str(run["label"]) for run in self.runs())
        return f"{sum(runs.values())} runs of {len(runs)} labels, {dict(runs.most_common(5))}"

    # -- the end

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        # Results outlive the server in what a failed test leaves behind; their end must not look for it.
        backend: Any = self.app.backend
        backend.remove_pending_result = lambda result: result
        self.app.close()
        clients = [self.redis, self.queues, self._ledger]
        # a store keeps its connections until it is collected: that would be hundreds of them in one session
        used = store._stores.get(self.app)
        if used is not None and used.link._made is not None:  # a Cluster that is gone is not asked
            clients.append(used.link.client)
        for client in clients:
            client.close()

    def reset(self) -> None:
        """Forget timers, messages, results and runs, but not the bindings that a running worker declared."""
        if self.beside is not self.server:
            self.server.reset()
        self.beside.reset_configuration()
        for database in (0, BACKEND_DB, LEDGER_DB):
            with self.beside.client(database) as client:
                for key in client.scan_iter(count=1000):
                    if not key.startswith("_kombu."):
                        client.delete(key)


def once_each(runs: Iterable[Run], labels: Iterable[Any]) -> None:
    """Assert that exactly these labels ran, each once and each under a task id of its own."""
    runs = list(runs)
    counted = Counter(run["label"] for run in runs)
    wanted = set(labels)
    lost = wanted - set(counted)
    more = {label: count for label, count in counted.items() if count > 1}
    foreign = set(counted) - wanted
    wrong = {"lost": len(lost), "more than once": more, "not asked for": foreign}
    assert not any(wrong.values()), wrong
    assert len({run["request"]["id"] for run in runs}) == len(runs), "two runs share a task id"

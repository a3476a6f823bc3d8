"""The stage: servers, proxies, workers and users of a run, and what faults get hold of them by.

    users ─▶ proxy ─▶ store ◀─ proxies ◀─ expiry workers ─▶ proxy ─▶ broker ─▶ ordinary workers ─▶ calm Redis

The store keeps an AOF with `appendfsync always`. Ordinary workers reach the broker directly, and no fault is
done to them or to the broker itself: what they lost would not be ours. Expiry workers lose sight of it by the
proxy.

Beside it stands the peer: workers that hold `apply_async(countdown=…)` tasks. Their broker keeps the timers
and is treated as the store is, and their paths as those of the expiry workers. It is spared the wrong clocks:
an ETA is a point in time, so all that passes a wrong clock would be off by an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import redis

from celery_redis_expiry import schedule_on_expiry
from celery_redis_expiry.store import store_of
from tests.chaos import app as chaos_app
from tests.chaos import load
from tests.servers import rabbitmq
from tests.servers.processes import Process
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer, binaries
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CLOCK = Path(__file__).resolve().parent / "clock"
T = TypeVar("T")

#: How many expiry workers, and how many workers of the peer.
WORKERS = 3
ORDINARY = 2
#: Seconds; the shortest there is, so that a run sees many leases end.
LEASE = 5.0
#: Seconds by which one expiry worker's clock, and one user's, is wrong.
WRONG_CLOCK = 3600
#: Seconds that a worker asked to end has for it.
PATIENCE = 40.0


@dataclass(frozen=True)
class Setting:
    """What a run is made of.

    Attributes:
        delay: the longest delay of a timer, seconds.
        broker: `redis` or `amqp`; or `store`: the Redis with the timers, so that they are fired in place.
        visibility: the peer's `visibility_timeout`; Celery asks for one longer than the longest delay.
    """

    seed: int
    seconds: float
    timers: int
    delay: float
    broker: str = "redis"
    peer: bool = True
    peer_acks_late: bool = False

    @property
    def visibility(self) -> int:
        return int(self.delay) + 10


class Slot:
    """The place of one worker: what runs in it is killed, stopped and started anew."""

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.process: Process | None = None
        self.wanted = False
        self._command = list(command)
        self._env = env
        self.log = folder / f"{name}.log"
        self.log.unlink(missing_ok=True)
        self._folder = folder

    def start(self) -> None:
        self.process = Process(self._command, log=self.log, env=self._env, cwd=self._folder)
        self.wanted = True

    def wait_ready(self, timeout: float = 60) -> None:
        eventually(
            lambda: re.search(r"\bready\.", self.text()),
            timeout=timeout,
            every=0.1,
            what=lambda: f"{self.name} ready\n{self.text()[-3000:]}",
        )

    def kill(self) -> None:
        """kill -9."""
        self.wanted = False
        if self.process is not None:
            self.process.kill()

    def terminate(self) -> bool:
        """SIGTERM; whether it ended within its time."""
        self.wanted = False
        if self.process is None:
            return True
        self.process.signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.process.kill()
        return True

    def freeze(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether it is gone though nobody ended it."""
        return self.wanted and self.process is not None and not self.process.running

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Tap:
    """Reads the task ids off what goes to the broker."""

    #: In the headers: as JSON for Redis, as a table for AMQP.
    PATTERN = re.compile(rb'(?:"id": "|\x02idS\x00\x00\x00\x24)([0-9a-f]{8}-[0-9a-f-]{27})')
    LONGEST = 64

    def __init__(self) -> None:
        self.published: dict[str, list[float]] = defaultdict(list)
        self._tails: dict[object, bytes] = {}
        self._lock = threading.Lock()

    def __call__(self, connection: object, data: bytes) -> None:
        # a message may lie in two pieces; what was found in the first must not be found again
        with self._lock:
            data = self._tails.pop(connection, b"") + data
            end = 0
            for match in self.PATTERN.finditer(data):
                self.published[match.group(1).decode()].append(time.time())
                end = match.end()
            self._tails[connection] = data[max(end, len(data) - self.LONGEST) :]


class Stage:
    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self.tap = Tap()
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.breaches: list[str] = []
        self.fell: Counter[str] = Counter()
        self.users: dict[str, Process] = {}
        self._servers: list[RedisServer | RabbitMQServer] = []
        self._proxies: list[Proxy] = []
        self._slots: list[Slot] = []

    # -- up

    def start(self) -> None:
        found = binaries()
        self.redis_version, self._binary = next(iter(found.items()))
        durable = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        self.calm = self._redis()
        self.store = self._redis(**durable)
        self.broker: RedisServer | RabbitMQServer
        if self.setting.broker == "amqp":
            script = rabbitmq.find_server()
            if script is None:
                raise RuntimeError("no rabbitmq-server found: install RabbitMQ")
            self.broker = RabbitMQServer(script)
            self._servers.append(self.broker)
            self.broker.start()
        else:
            self.broker = self.store if self.in_place else self._redis()
        # a namespace knows its broker by its address, so there is one way for all
        self.store_paths = (
            [self._proxy(self.store.port, tap=self.tap)] * WORKERS
            if self.in_place
            else [self._proxy(self.store.port) for _ in range(WORKERS)]
        )
        self.user_path = self._proxy(self.store.port)
        self.broker_path = self._proxy(self.broker.port, redis=self.setting.broker != "amqp", tap=self.tap)
        ahead = WRONG_CLOCK if self.setting.seed % 2 else -WRONG_CLOCK
        self.expiry = [
            self._worker(
                f"expiry{i}", "-P", "expiry",
                config=self._config(
                    store=self.store_paths[i].port,
                    broker=(self.store_paths[i] if self.in_place else self.broker_path).port,
                ),
                clock=ahead if i == WORKERS - 1 else 0,
            )
            for i in range(WORKERS)
        ]  # fmt: skip
        self.ordinary = [
            self._worker(f"ordinary{i}", "-P", "threads", "-c", "4", config=self._config())
            for i in range(ORDINARY)
        ]
        self.peers: list[Slot] = []
        if self.setting.peer:
            self.peer_broker = self._redis(**durable)
            self.peer_broker_path = self._proxy(self.peer_broker.port)
            self.peer_store_paths = [self._proxy(self.peer_broker_path.port) for _ in range(WORKERS)]
            self.peer_user_path = self._proxy(self.peer_broker.port)
            self.peers = [
                self._worker(
                    f"peer{i}", "-P", "threads", "-c", "4",
                    config=self._peer_config(self.peer_store_paths[i].port),
                )
                for i in range(WORKERS)
            ]  # fmt: skip
        self.together(Slot.start, self._slots)
        self.together(Slot.wait_ready, self._slots)
        self.app = chaos_app.build(self._config())
        self.calm_client: Any = self.calm.client()

    @property
    def in_place(self) -> bool:
        return self.setting.broker == "store"

    def _redis(self, **options: str) -> RedisServer:
        server = RedisServer(self._binary, self.redis_version, **options)
        self._servers.append(server)
        return server.start()

    def _proxy(self, port: int, **options: Any) -> Proxy:
        proxy = Proxy(("127.0.0.1", port), **options)
        self._proxies.append(proxy)
        return proxy

    def _config(self, *, store: int | None = None, broker: int | None = None) -> dict[str, Any]:
        return {
            "broker": self.broker.url(port=broker),
            "ledger": self.calm.url(),
            "runs": "runs:ours",
            "conf": {
                "expiry_redis_url": self.store.url(port=store),
                "expiry_lease": LEASE,
                "worker_prefetch_multiplier": 16,
            },
        }

    def _peer_config(self, port: int) -> dict[str, Any]:
        return {
            "broker": self.peer_broker.url(port=port),
            "ledger": self.calm.url(),
            "runs": "runs:peer",
            "conf": {
                "expiry_redis_url": self.peer_broker.url(port=port),
                "task_acks_late": self.setting.peer_acks_late,
                "worker_prefetch_multiplier": 16,
                "broker_transport_options": {
                    "visibility_timeout": self.setting.visibility,
                    "socket_timeout": 5,
                    # what became visible is looked for every 10 s, not every 100 s; whoever dies while
                    # looking keeps the others from it for 20 s, not for 300 s
                    "unacked_restore_throttle": 1,
                    "unacked_mutex_expire": 20,
                },
            },
        }

    def _environment(self, config: dict[str, Any], clock: float = 0) -> dict[str, str]:
        path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, chaos_app.VARIABLE: json.dumps(config), "PYTHONUNBUFFERED": "1"}
        if clock:
            path.insert(0, str(CLOCK))
            env["CHAOS_CLOCK"] = str(clock)
        return {**env, "PYTHONPATH": os.pathsep.join(part for part in path if part)}

    def _worker(self, name: str, *options: str, config: dict[str, Any], clock: float = 0) -> Slot:
        command = [sys.executable, "-m", "celery", "-A", "tests.chaos.app:app", "worker", "-l", "INFO"]
        command += ["-n", f"{name}@chaos", "--without-mingle", "--without-gossip", *options]
        slot = Slot(name, command, self._environment(config, clock), self.folder)
        self._slots.append(slot)
        return slot

    def start_load(self) -> None:
        """Start the users, and let all of them go at once."""
        setting = self.setting
        astray = setting.timers // 4
        common: dict[str, Any] = {
            "seed": setting.seed,
            "seconds": setting.seconds,
            "delay": setting.delay,
            "ledger": self.calm.url(),
        }
        ours = self._config(store=self.user_path.port)
        self._users(load.Task(
            name="user", side="ours", timers=setting.timers - astray, bulk=0.7, wrong_clock=False, **common
        ), ours)  # fmt: skip
        # ahead where the worker's clock is behind, and the other way round
        ahead = -WRONG_CLOCK if setting.seed % 2 else WRONG_CLOCK
        self._users(load.Task(
            name="astray", side="ours", timers=astray, bulk=0.7, wrong_clock=True, **common
        ), ours, ahead)  # fmt: skip
        if setting.peer:
            self._users(load.Task(
                name="peer", side="peer", timers=setting.timers, bulk=0, wrong_clock=False, **common
            ), self._peer_config(self.peer_user_path.port))  # fmt: skip
        eventually(
            lambda: self.calm_client.llen(load.READY) == len(self.users),
            timeout=60,
            what=lambda: "the users\n" + "\n".join(user.tail(20) for user in self.users.values()),
        )
        self.calm_client.set(load.GO, "1")

    def _users(self, task: load.Task, config: dict[str, Any], clock: float = 0) -> None:
        env = self._environment(config, clock) | {load.VARIABLE: json.dumps(asdict(task))}
        command = [sys.executable, "-m", "tests.chaos.load"]
        self.users[task.name] = Process(command, log=self.folder / f"{task.name}.log", env=env, cwd=ROOT)

    # -- what faults take hold of: ours, and what stands for it on the other side

    @property
    def holders(self) -> list[RedisServer]:
        """The servers that hold timers."""
        return [self.store, self.peer_broker] if self.setting.peer else [self.store]

    def workers(self, number: int) -> list[Slot]:
        return [slots[number] for slots in (self.expiry, self.peers) if slots]

    def store_path(self, number: int) -> list[Proxy]:
        return [self.store_paths[number]] + ([self.peer_store_paths[number]] if self.setting.peer else [])

    def user_paths(self) -> list[Proxy]:
        return [self.user_path] + ([self.peer_user_path] if self.setting.peer else [])

    def broker_paths(self) -> list[Proxy]:
        return [self.broker_path] + ([self.peer_broker_path] if self.setting.peer else [])

    def together(self, do: Callable[[T], Any], each: Iterable[T]) -> list[Any]:
        """Do the same to all at once."""
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(do, each))

    def tell(self, server: RedisServer, *command: Any) -> Any:
        """A command to a server itself, once it answers."""

        def ask() -> list[Any] | None:
            try:
                with server.client() as client:
                    return [client.execute_command(*command)]
            except (redis.ConnectionError, redis.TimeoutError):
                return None

        return eventually(ask, timeout=30, every=0.1, what=f"an answer to {command[0]}")[0]

    def tell_holders(self, *command: Any) -> None:
        self.together(lambda server: self.tell(server, *command), self.holders)

    def expect_refusal(self, error: type[Exception]) -> None:
        """Scheduling must say what is wrong, and store nothing."""
        signature = self.app.tasks["chaos.record"].s("refused")
        try:
            schedule_on_expiry(signature, seconds=0, app=self.app)
        except error:
            return
        except Exception as exc:
            self.breaches.append(f"scheduling raised {exc!r}, not {error.__name__}")
        else:
            self.breaches.append(f"scheduling did not raise {error.__name__}")

    # -- what is seen

    def key(self, name: str) -> str:
        """A key of the package as its documentation tells it."""
        return f"{{expiry.chaos.0}}:{name}"

    def left(self) -> dict[str, int]:
        """What is on its way still, on our side."""
        counts = {name: count for name, count in store_of(self.app).counts().items() if count}
        queued = self._queued(self.broker)
        return {**counts, **({"queued": queued} if queued else {})}

    def left_of_peer(self) -> dict[str, int]:
        """What is on its way still on the other side: queued, or taken by a worker that did not run it."""
        if not self.setting.peer:
            return {}
        with self.peer_broker.client() as client:
            counts = {"queued": int(client.llen("celery")), "unacked": int(client.hlen("unacked"))}
        return {name: count for name, count in counts.items() if count}

    def _queued(self, server: RedisServer | RabbitMQServer) -> int:
        if isinstance(server, RedisServer):
            with server.client() as client:
                return int(client.llen("celery")) + int(client.hlen("unacked"))
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare("celery", passive=True).message_count)

    def left_behind(self) -> dict[str, int]:
        """What must not lie in the store once no timer is left: keys and their sizes."""
        may_stay = {self.key(name) for name in ("namespace", "pacers", "templates", "used")}
        sizes = {}
        with self.store.client() as client:
            for key in client.scan_iter(count=1000):
                if key in may_stay or (self.in_place and "kombu" in key) or client.pttl(key) != -1:
                    continue  # remembered answers end by themselves
                kind = client.type(key)
                sizes[key] = (
                    client.hlen(key) if kind == "hash" else client.zcard(key) if kind == "zset" else 1
                )
        return sizes

    def supervise(self) -> None:
        """Start what ended by itself, as a supervisor would. Of ours none may."""
        for slot in self._slots:
            if slot.ended:
                self.fell[slot.name] += 1
                if slot not in self.peers:
                    self.breaches.append(f"{slot.name} ended by itself\n{slot.text()[-2000:]}")
                slot.start()

    # -- calm, and down

    def calm_down(self) -> None:
        """No fault from here on: every server is up, every path open, every worker running."""
        for proxy in self._proxies:
            proxy.clear()
        for slot in self._slots:
            slot.thaw()
            if not slot.wanted:
                slot.start()

    def close(self) -> None:
        for user in self.users.values():
            user.kill()
        for slot in self._slots:
            slot.thaw()
            slot.kill()
        for proxy in self._proxies:
            proxy.close()
        for server in self._servers:
            with contextlib.suppress(Exception):
                server.remove()

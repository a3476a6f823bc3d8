"""The world that the pages speak of: what is there before the first block of a page runs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import proj
from celery import Celery, _state, chain, chord, group

from celery_redis_expiry import NotReplicated, schedule_on_expiry
from tests.docs.blocks import Block
from tests.docs.shell import Shell
from tests.servers.processes import Process
from tests.servers.redis import RedisServer
from tests.servers.workers import APPS

DAY = 86400
READERS_REDIS = "redis://localhost:6379/0"
ROWS = tuple(SimpleNamespace(id=number, delay=number) for number in range(100, 110))


@dataclass
class World:
    """One page's surroundings: apps called proj and shop with timers in them, names for its Python blocks.

    Attributes:
        redis: broker, results and timers of both apps.
        start_redis: for a page that configures one.
        show_log: of the workers, where the test fails.
    """

    redis: RedisServer
    shell: Shell
    folder: Path
    start_redis: Callable[..., RedisServer]
    show_log: Callable[[Callable[[], tuple[str, str]]], None]

    def __post_init__(self) -> None:
        self.workers: list[Process] = []
        self.apps = [proj.build(self.redis.url(), main) for main in ("proj", "shop")]
        self._before = _state.default_app, _state._tls.current_app
        self._shared = set(_state._on_app_finalizers)
        self.apps[0].set_default()
        self.apps[0].set_current()
        for app in self.apps:
            for name in ("cart:7", "referral:42"):
                schedule_on_expiry(app.tasks["remind"].s(7), seconds=DAY, key=name)

    def names(self) -> dict[str, Any]:
        """What a page's Python blocks may call without having defined it. `app` is theirs to configure."""
        app = self.apps[0]
        tasks = {name: app.tasks[name] for name in proj.TASKS}
        tasks["add"] = app.tasks["proj.add"]
        canvas = {"chain": chain, "chord": chord, "group": group}
        models = {"referral": SimpleNamespace(id=42), "rows": ROWS}
        ours = {"schedule_on_expiry": schedule_on_expiry, "NotReplicated": NotReplicated}
        app = Celery("configured", set_as_current=False)
        return {**tasks, **canvas, **models, **ours, "app": app, "__name__": "proj"}

    def here(self, block: Block) -> Block:
        """The block with the Redis of this world in place of its reader's, which is nobody's to touch."""
        return replace(block, code=block.code.replace(READERS_REDIS, self.redis.url()))

    def start_workers(self, blocks: list[Block]) -> None:
        """Start the workers that the page tells its reader to start, by the very lines it has for that."""
        lines = [
            line.strip() for block in blocks if block.language == "sh" for line in block.code.splitlines()
        ]
        wanted = {"-P expiry" in line: line for line in lines if line.startswith("celery -A proj worker")}
        environment = {**os.environ, "PYTHONPATH": str(APPS), "PROJ_REDIS": self.redis.url()}
        for expiry, line in wanted.items():
            command = [sys.executable, "-m", *shlex.split(line, comments=True)]
            log = self.folder / ("expiry.log" if expiry else "worker.log")
            worker = Process(command, log=log, env=environment, cwd=self.folder)
            self.workers.append(worker)
            self.show_log(lambda worker=worker, line=line: (line, worker.tail()))

    def type(self, block: Block, line: str) -> None:
        """Type a command that the block has in another language, where its page's commands are typed."""
        self.shell.run(replace(block, code=line), {})

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        _state.default_app, _state._tls.current_app = self._before
        # the tasks of a page's own app would be those of every app to come
        _state._on_app_finalizers.intersection_update(self._shared)
        for app in self.apps:
            app.close()

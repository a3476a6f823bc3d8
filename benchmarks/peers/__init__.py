"""The peers: what a user would pick instead. Who they are, and how their processes are started.

Each runs in an environment of its own, since they want different releases of redis-py; what it is made from
stands in `requirements/`, and `install.py` makes it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
#: Where the environments lie. Git ignores it, `make clean` removes it.
ENVIRONMENTS = REPOSITORY / ".venv-peers"
#: In the environment of a peer that could not be installed: why.
FAILED = "failed.txt"


@dataclass(frozen=True)
class Peer:
    """One peer, or this package.

    Arguments:
        name: by which the command line and the results know it.
        title: as tables call it.
        adapter: its module here.
        environment: the folder of its environment; empty for the harness's own.
        roles: the kinds of worker process it needs.
        scheme: of its broker's URL, where that is not a plain Redis's.
        redis_options: its Redis server's.
        patience: seconds for an orderly end of its workers.
    """

    name: str
    title: str
    adapter: str
    environment: str = ""
    roles: tuple[str, ...] = ("worker",)
    scheme: str = "redis"
    redis_options: dict[str, str] = field(default_factory=dict)
    patience: float = 3.0

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.environment

    def why_not(self) -> str | None:
        """Why it can't take part; None where it can."""
        if not self.environment:
            return None
        if not self.folder.exists():
            return "not installed: `make .venv-peers/.installed`"
        failed = self.folder / FAILED
        return failed.read_text().strip() if failed.exists() else None

    def version(self) -> str:
        """Of its package: the first of its requirements."""
        [file] = (Path(__file__).parent / "requirements").glob(f"{self.environment}.*")
        if file.suffix == ".json":
            return str(next(iter(json.loads(file.read_text())["dependencies"].values())))
        return file.read_text().partition("\n")[0].partition("==")[2]

    def command(self, role: str) -> list[str]:
        if self.adapter.endswith(".cjs"):
            return ["node", str(Path(__file__).with_name(self.adapter)), role]
        python = self.folder / "bin" / "python" if self.environment else sys.executable
        return [str(python), "-m", "benchmarks.peers.host", self.adapter, role]


def _own(name: str, title: str, **more: object) -> Peer:
    return Peer(name, title, name, environment=name, **more)  # type: ignore[arg-type]


OURS = Peer("ours", "this package", "ours", roles=("expiry", "worker"), patience=20)
COUNTDOWN = Peer("countdown", "Celery `countdown`, Redis", "celery_countdown", patience=60)
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        COUNTDOWN,
        Peer(
            *("countdown-rabbitmq", "Celery `countdown`, RabbitMQ", "celery_countdown"),
            scheme="amqp",
            patience=60,
        ),
        Peer(
            *("celery-redis-plus", "celery-redis-plus", "celery_redis_plus"),
            environment="celery-redis-plus",
            scheme="valkey",
            patience=20,
        ),
        Peer("bare", "bare keyspace events", "bare"),
        Peer(
            *("bare-tuned", "bare events, Redis tuned", "bare"),
            redis_options={"hz": "500", "active_expire_effort": "10"},
        ),
        Peer("bullmq", "BullMQ", "bullmq.cjs", environment="bullmq"),
        _own("arq", "arq"),
        _own("rq", "RQ"),
        _own("huey", "Huey"),
        _own("dramatiq", "Dramatiq"),
        _own("saq", "SAQ"),
        _own("taskiq", "taskiq-redis", roles=("worker", "scheduler")),
        _own("streaq", "streaq"),
        _own("docket", "pydocket"),
    )
}

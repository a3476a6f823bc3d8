"""One run of Celery's tests, on servers of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import rabbitmq, redis
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker, celery

#: The name of Celery's test app, and so the namespace of its timers.
MAIN = "celery.tests"
#: Celery's tests that concern countdown, eta, retry, revoke, chains and chords, as `-k` takes it.
CONCERNED = "test_canvas or test_group_chains or eta or expired or retr or revoke or scheduled"
FILES = ("test_tasks", "test_canvas", "test_group_chains", "test_inspect")
#: Seconds for a run.
BOUND = 3600


@dataclass
class Run:
    """How the tests went: by their names what became of each, and how many timers fired meanwhile."""

    outcomes: dict[str, str]
    fired: int = 0


@dataclass(frozen=True)
class Kind:
    """Of a run.

    Attributes:
        broker: `redis` or `amqp`.
        expression: which tests, as `-k` takes it.
        settings: with the package imported and an expiry worker beside, these of ours; None for none of it.
    """

    broker: str
    expression: str
    settings: dict[str, Any] | None


def run(tests: Path, folder: Path, kind: Kind) -> Run:
    """Run them once.

    Arguments:
        tests: as `sdist.fetch` answered.
        folder: for what it leaves behind: a log, a report.
    """
    ours = kind.settings is not None
    place = folder / f"{kind.broker}-{'with' if ours else 'without'}-us"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(tests, place, ignore=shutil.ignore_patterns("overlay", "requirements", "done"))
    with _servers(kind.broker) as (redis_server, broker):
        options = ["-k", kind.expression]
        url = redis_server.url()
        config = {"main": MAIN, "broker": broker, "backend": url, "ledger": redis_server.url(15)}
        if not ours:
            _pytest(place, tests / "overlay", redis_server, broker, options)
            return Run(outcomes(place / "report.xml"))
        (place / "integration-tests-config.json").write_text(json.dumps(kind.settings))
        expiry = Worker(config, place, "expiry", "-P", "expiry")
        try:
            expiry.wait_ready()
            options += ["-p", "celery_redis_expiry"]
            _pytest(place, tests / "overlay", redis_server, broker, options)
            return Run(outcomes(place / "report.xml"), _fired(config, place))
        finally:
            expiry.kill()


@contextmanager
def _servers(broker: str) -> Iterator[tuple[RedisServer, str]]:
    with ExitStack() as stack:
        version, binary = next(iter(redis.binaries().items()))
        redis_server = RedisServer(binary, version).start()
        stack.callback(redis_server.remove)
        if broker == "redis":
            yield redis_server, redis_server.url()
            return
        script = rabbitmq.find_server()
        assert script is not None, "install RabbitMQ"
        rabbit = RabbitMQServer(script)
        stack.callback(rabbit.remove)
        yield redis_server, rabbit.start().url()


def _pytest(place: Path, overlay: Path, server: RedisServer, broker: str, options: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider"]
    command += ["-q", "--timeout=300", f"--junit-xml={place / 'report.xml'}", *options]
    command += [f"t/integration/{name}.py" for name in FILES]
    environment = {
        **os.environ,
        # of this repository nothing but the package is to be seen
        "PYTHONPATH": str(overlay),
        "TEST_BROKER": broker,
        "TEST_BACKEND": server.url(),
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(server.port),
    }
    with (place / "pytest.log").open("w") as log:
        subprocess.run(
            command,
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=BOUND,
            check=False,
        )


def outcomes(report: Path) -> dict[str, str]:
    """What became of each test; of one with several cases in the report (reruns, subtests) the worst."""
    order = ("passed", "skipped", "failed")
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('t.integration.')}::{case.get('name')}"
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        outcomes[name] = max(outcome, outcomes.get(name, outcome), key=order.index)
    return outcomes


def _fired(config: dict[str, str], place: Path) -> int:
    told = celery(config, place, "-A", "ledger_app:app", "inspect", "-j", "stats", "-d", "expiry@test").stdout
    found = re.search(r"\{.*\}", told, re.DOTALL)
    stats = json.loads(found[0]) if found else {}
    return int(next(iter(stats.values()), {}).get("expiry", {}).get("fired", 0))

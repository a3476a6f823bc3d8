"""Fixtures all tests share: Redis servers by version, one RabbitMQ node, and markers by folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import faces
from tests.servers import rabbitmq, redis
from tests.servers.cluster import RedisCluster
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import FETCH_HINT, RedisServer
from tests.servers.workers import APPS

HERE = Path(__file__).parent
FETCHED = ("6.2", "8.2")  # what .ci/fetch_redis.py brings; the PATH's comes on top
HARD_TIMEOUT = {"integration": 60, "acceptance": 100, "browser": 100}

# how long an example takes says how busy the machine is
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
sys.path.insert(0, str(APPS))  # the workers' app is imported here too, under the same name
LOGS: pytest.StashKey[list[Callable[[], tuple[str, str]]]] = pytest.StashKey()


def missing(what: str) -> None:
    """A server is not there: at home that skips the test, in CI it fails it."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} (and this is CI)", pytrace=False)
    pytest.skip(what)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt("SIGTERM")


def pytest_configure(config: pytest.Config) -> None:
    # As Ctrl-C: the fixtures end what they started, where the default would leave servers and workers behind.
    signal.signal(signal.SIGTERM, _interrupt)
    config.addinivalue_line("markers", "integration: needs real Redis servers")
    config.addinivalue_line("markers", "acceptance: starts real workers and kills them")
    config.addinivalue_line("markers", "browser: looks at it in a real headless Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, and give everything that waits for other processes a hard end."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        folder = item.path.relative_to(HERE).parts[0]
        if folder in HARD_TIMEOUT:
            item.add_marker(getattr(pytest.mark, folder))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(HARD_TIMEOUT[folder]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "redis_server" in metafunc.fixturenames:
        versions = sorted({*redis.binaries(), *FETCHED})
        metafunc.parametrize("redis_server", versions, indirect=True, ids=lambda version: f"redis{version}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Show the logs' ends of the processes a failed test had started."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for log in item.stash.get(LOGS, []):
            report.sections.append(log())


@pytest.fixture
def show_log(request: pytest.FixtureRequest) -> Callable[[Callable[[], tuple[str, str]]], None]:
    """Register what answers (title, text), to be shown where the test fails."""
    logs: list[Callable[[], tuple[str, str]]] = request.node.stash.setdefault(LOGS, [])
    return logs.append


@pytest.fixture(params=["blocking", "awaited"])
def face(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test runs twice: with the public calls as they are, and with those of asyncio in their place."""
    with faces.awaited(request.module, monkeypatch) if request.param == "awaited" else nullcontext():
        yield request.param


def redis_binary(version: str | None = None) -> tuple[Path, str]:
    """The redis-server of a version, else of the default one: the PATH's."""
    found = redis.binaries()
    if not found:
        missing(f"no redis-server found: {FETCH_HINT}")
    version = version or next(iter(found))
    if version not in found:
        missing(f"no redis-server {version} found: {FETCH_HINT}")
    return found[version], version


@pytest.fixture(scope="session")
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a further Redis of a version, with options of its own; it ends with the session at the latest."""
    started: list[RedisServer] = []

    def start(version: str | None = None, **options: str) -> RedisServer:
        server = RedisServer(*redis_binary(version), **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.remove()


@pytest.fixture(scope="session")
def shared_redis(start_redis: Callable[..., RedisServer]) -> Callable[..., RedisServer]:
    """One Redis a version and use for the whole session; who asks gets it as the last test left it."""
    servers: dict[tuple[str | None, str], RedisServer] = {}

    def get(version: str | None = None, use: str = "common") -> RedisServer:
        if (version, use) not in servers:
            servers[version, use] = start_redis(version)
        return servers[version, use]

    return get


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, shared_redis: Callable[..., RedisServer]) -> RedisServer:
    """An empty Redis of every version there is, one test each."""
    server = shared_redis(request.param, "by version")
    server.reset()
    return server


@pytest.fixture(scope="session")
def start_cluster() -> Iterator[Callable[..., RedisCluster]]:
    """Start a Redis Cluster of a version, with options of its own; it ends with the session at the latest."""
    started: list[RedisCluster] = []

    def start(version: str | None = None, **options: str) -> RedisCluster:
        started.append(RedisCluster(*redis_binary(version), **options))
        return started[-1].start()

    yield start
    for cluster in started:
        cluster.remove()


@pytest.fixture(scope="session")
def shared_cluster(start_cluster: Callable[..., RedisCluster]) -> RedisCluster:
    """The Cluster of the session; who asks gets it as the last test left it."""
    return start_cluster()


@pytest.fixture
def redis_cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """A whole Cluster with nothing in it, every slot where it began."""
    shared_cluster.reset()
    return shared_cluster


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    script = rabbitmq.find_server()
    if script is None:
        missing("no rabbitmq-server found: install RabbitMQ")
        raise AssertionError("unreachable")
    server = RabbitMQServer(script)
    try:
        yield server.start()
    finally:
        server.remove()

"""Sites for the acceptance tests: one Redis and one ordinary worker a session, expiry workers a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Site

ShowLog = Callable[[Callable[[], tuple[str, str]]], None]


@pytest.fixture(scope="session")
def common_site(
    shared_redis: Callable[..., RedisServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site whose ordinary worker all tests share: it only runs what it finds in its queues."""
    site = Site(shared_redis(), tmp_path_factory.mktemp("common"))
    yield site
    site.close()


@pytest.fixture(scope="session")
def ordinary_worker(common_site: Site) -> Worker:
    common_site.reset()
    return common_site.ordinary("shared", "-Q", "celery,other")


@pytest.fixture
def make_site(
    shared_redis: Callable[..., RedisServer], tmp_path: Path, show_log: ShowLog
) -> Iterator[Callable[..., Site]]:
    """Make a site of one's own, on the shared Redis unless told otherwise; its workers end with the test."""
    made: list[Site] = []

    def make(server: RedisServer | None = None, **options: Any) -> Site:
        site = Site(server or shared_redis(), tmp_path, show_log=show_log, **options)
        if all(site.server is not other.server for other in made):
            site.reset()
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def idle_site(make_site: Callable[..., Site], shared_redis: Callable[..., RedisServer]) -> Site:
    """A site where nobody runs tasks: what is fired stays in its queue, to be looked at."""
    return make_site(shared_redis(use="idle"))


@pytest.fixture
def site(make_site: Callable[..., Site], ordinary_worker: Worker, show_log: ShowLog) -> Site:
    """A site with the shared ordinary worker."""
    assert ordinary_worker.process.running, f"the shared worker ended\n{ordinary_worker.process.tail()}"
    show_log(lambda: ("log of the shared ordinary worker", ordinary_worker.process.tail(20)))
    return make_site()


@pytest.fixture
def rabbit_site(make_site: Callable[..., Site], rabbitmq_server: RabbitMQServer) -> Iterator[Site]:
    """A site whose broker is RabbitMQ; its timers live in the shared Redis."""
    site = make_site(broker=rabbitmq_server.url())
    yield site
    with site.app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.queue_delete("celery")

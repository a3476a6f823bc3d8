"""One site with an expiry worker that lives through a whole module of garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.acceptance.conftest import make_site, rabbit_site
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Site

__all__ = ["make_site", "rabbit_site"]


@pytest.fixture(scope="module")
def troubled_site(
    start_redis: Callable[..., RedisServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site of its own. Nobody runs tasks there: Celery's own workers end at some of the messages."""
    server = start_redis()
    site = Site(server, tmp_path_factory.mktemp("troubled"))
    yield site
    site.close()
    server.remove()


@pytest.fixture(scope="module")
def troubled_worker(troubled_site: Site) -> Worker:
    """Its expiry worker: it hears every event there is."""
    return troubled_site.expiry(expiry_follow_foreign_ttl=True, expiry_lease=5)


@pytest.fixture(scope="module")
def raw(troubled_site: Site) -> redis.Redis:
    """What answers bytes."""
    return troubled_site.server.raw_client()

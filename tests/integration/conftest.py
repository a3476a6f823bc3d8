"""Sites without workers: what is scheduled stays where it is, on every Redis version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.site import Site


@pytest.fixture
def make_site(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**options: Any) -> Site:
        made.append(Site(redis_server, tmp_path, **options))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(("127.0.0.1", redis_server.port))
    yield proxy
    proxy.close()


@pytest.fixture
def current(site: Site) -> Iterator[None]:
    """The site's app is the current one, as in a process that has but one."""
    with site.current():
        yield

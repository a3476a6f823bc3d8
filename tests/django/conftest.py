"""Django is configured before the tests' modules are imported: its models want that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.django import project
from tests.servers.redis import RedisServer
from tests.site import Site

project.begin()


@pytest.fixture
def make_site(shared_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**options: Any) -> Site:
        server = shared_redis(use="django")
        made.append(Site(server, tmp_path, **options))
        if len(made) == 1:
            made[0].reset()
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A site without workers, whose app is the current one."""
    site = make_site()
    with site.current():
        yield site

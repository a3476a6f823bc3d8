"""What the pages find: a Redis with some timers in it, a project called proj, a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.shell import Shell
from tests.docs.world import World
from tests.servers.redis import RedisServer


@pytest.fixture(scope="session")
def documented_redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture(scope="session")
def shell(documented_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(documented_redis, tmp_path_factory.mktemp("shell"))
    yield shell
    shell.close()


@pytest.fixture
def world(
    documented_redis: RedisServer,
    shell: Shell,
    tmp_path: Path,
    start_redis: Callable[..., RedisServer],
    show_log: Callable[[Callable[[], tuple[str, str]]], None],
) -> Iterator[World]:
    documented_redis.reset()
    world = World(documented_redis, shell, tmp_path, start_redis, show_log)
    yield world
    world.close()

"""A store in this process's memory, for tests: fakeredis, which runs our very scripts.

`expiry_redis_url = "memory://"`, or with a name behind it for one of its own. What has that name shares it
for as long as the process lives, whichever client asks, blocking or awaited. Its clock is the process's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery_redis_expiry.errors import NotConfigured

_servers: dict[str, Any] = {}


def memory_client(name: str, *, awaited: bool = False) -> Any:
    """A client of redis-py, or of redis.asyncio, for a store in memory.

    Raises:
        NotConfigured: fakeredis is not installed, or has no Lua.
    """
    try:
        import fakeredis

        # without it fakeredis knows no EVAL
        import_module("lupa")
    except ImportError as exc:
        raise NotConfigured(
            f"a store in memory needs fakeredis and its Lua ({exc}): pip install "
            "'celery-redis-expiry[testing]'"
        ) from exc
    if name not in _servers:
        _servers[name] = fakeredis.FakeServer()
    kind = fakeredis.FakeAsyncRedis if awaited else fakeredis.FakeRedis
    # as `client_options` has it
    return kind(server=_servers[name], protocol=2, encoding_errors="surrogateescape")


def forget_memory(name: str) -> None:
    """Let a store in memory go, with all that is in it."""
    _servers.pop(name, None)

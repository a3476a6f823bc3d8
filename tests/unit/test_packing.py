"""Commands are packed as redis-py packs them."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.connection import Connection
from redis.exceptions import DataError
from redis.utils import HIREDIS_AVAILABLE

from celery_redis_expiry.connections.packing import Packer, pack_quickly

COMMANDS: list[tuple[Any, ...]] = [
    ("PING",),
    ("CONFIG SET", "maxmemory", 0),
    (b"CLIENT SETINFO", "LIB-NAME", "x"),
    ("SET", b"\x00\xff", "sn\N{SNOWMAN}wman", "PX", 5, 0.1),
    ("SET", "\udcff as it came", memoryview(b"bytes"), ""),
    ("EVALSHA", "0" * 40, 300, *(f"key{number}" for number in range(300)), "x" * 20_000),
]


def packed(connection: Any, command: tuple[Any, ...]) -> bytes:
    return b"".join(connection.pack_command(*command))


def quick() -> Any:
    client = redis.Redis(encoding_errors="surrogateescape")
    pack_quickly(client)
    return client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_as_redis_py_packs_them(command: tuple[Any, ...]) -> None:
    assert packed(quick(), command) == packed(Connection(encoding_errors="surrogateescape"), command)


@pytest.mark.parametrize("value", [None, True, object()])
def test_what_redis_has_no_form_of(value: Any) -> None:
    with pytest.raises(DataError):
        packed(quick(), ("SET", "key", value))


def test_a_connection_has_it() -> None:
    assert isinstance(quick()._command_packer, Packer) != HIREDIS_AVAILABLE

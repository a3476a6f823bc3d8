"""What arrives on a subscribed connection is told whole, in whatever pieces it comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from celery_redis_expiry.worker.wire import Wire


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Wire]]:
    server, client = socket.socketpair()
    client.settimeout(5)
    with server, client:
        yield server, Wire(SimpleNamespace(_sock=client))


def frame(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


MESSAGES = [
    [b"pmessage", b"pattern*", b"channel", b"expired"],
    [b"pong", b""],
    [b"pmessage", b"pattern*", b"a name\r\nwith lines\r\n", b"!\x01\r\n\x00\xff"],
    [b"pmessage", b"pattern*", b"like the end\r\n$7\r\nexpired", b"expired"],
    [b"pmessage", b"pattern*", b"", b""],
]


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_whole_messages_from_pieces_of_any_size(ends: tuple[socket.socket, Wire], size: int) -> None:
    server, wire = ends
    data = b"".join(frame(*message) for message in MESSAGES) + b"*3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n"
    heard = []
    for start in range(0, len(data), size):
        server.sendall(data[start : start + size])
        heard += wire.read(5)
    assert heard == [*MESSAGES, [b"psubscribe", b"a", b"1"]]


def test_silence_and_the_end(ends: tuple[socket.socket, Wire]) -> None:
    server, wire = ends
    assert list(wire.read(0)) == list(wire.read(0.001)) == []
    server.close()
    with pytest.raises(ConnectionError):
        list(wire.read(1))


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request, and so on and on", b"+OK\r\n"])
def test_what_is_no_message(ends: tuple[socket.socket, Wire], garbage: bytes) -> None:
    server, wire = ends
    server.sendall(garbage)
    with pytest.raises(ValueError, match="no message"):
        list(wire.read(1))


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(b"-NOPERM this user may not\r\n", NoPermissionError), (b"-ERR no\r\n", ResponseError)],
)
def test_a_refusal_after_messages(
    ends: tuple[socket.socket, Wire], refusal: bytes, error: type[ResponseError]
) -> None:
    server, wire = ends
    server.sendall(frame(*MESSAGES[0]) + refusal)
    heard = wire.read(1)
    assert next(heard) == MESSAGES[0]
    with pytest.raises(ResponseError, match=refusal[1:-2].decode()) as refused:
        next(heard)
    assert type(refused.value) is error

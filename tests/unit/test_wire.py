"""What arrives on a subscribed connection is told whole, in whatever pieces it comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from celery_redis_expiry.keys import COMPACT_LENGTH, COMPACT_MEMBER
from celery_redis_expiry.worker.wire import Many, Wire


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


ONE, OTHER = b"AbC-_1:0a1b2c3d-0000-4000-8000-00000000000f", b"zzzzzz:ffffffff-0000-4000-8000-00000000000f"


def event(member: bytes, what: bytes = b"expired") -> bytes:
    return frame(b"pmessage", b"shop:[*", b"shop:[" + member, what)


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_a_run_of_events_is_one_message(size: int) -> None:
    """Those of other events, and of members of another shape, stand between them in their order."""
    server, client = socket.socketpair()
    many = Many("shop:[*", "shop:[", COMPACT_MEMBER, COMPACT_LENGTH, "expired")
    odd = ONE[:-1] + b"\n"
    data = event(ONE) + event(OTHER) + event(ONE, b"expire") + event(b"name") + event(odd) + event(OTHER) * 3
    heard: list[tuple[bytes, bytes]] = []
    runs = 0
    with server, client:
        wire = Wire(SimpleNamespace(_sock=client), many)
        for start in range(0, len(data), size):
            server.sendall(data[start : start + size])
            for message in wire.read(5):
                if message[0] == b"many":
                    runs += 1
                    heard += [(member, b"expired") for member in message[1:]]
                else:
                    heard.append((message[2].removeprefix(b"shop:["), message[3]))
    assert heard == [
        *[(ONE, b"expired"), (OTHER, b"expired"), (ONE, b"expire"), (b"name", b"expired")],
        *[(odd, b"expired"), *[(OTHER, b"expired")] * 3],
    ]
    # all that is there together
    assert runs == 2 or size < 10_000
    assert runs

"""RabbitMQ: messages of one kind as frames of AMQP 0-9-1, many in one write to the socket.

kombu and py-amqp prepare each message as if they had never seen its like, and write each by itself: that is a
system call and a wake-up of RabbitMQ a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import pack
from typing import Any

from amqp.basic_message import Message
from amqp.serialization import dumps
from amqp.spec import Basic
from kombu import Producer

from celery_redis_expiry.template import ID
from celery_redis_expiry.timer import Templated

#: Bytes that are gathered before they are written.
GATHERED = 65_536
#: Headers that are a message's own, though a template has a place for them.
OWN = frozenset({"argsrepr", "kwargsrepr"})
#: Types of frames, their end, and the bytes of a frame beside what it carries.
METHOD, HEADER, BODY, END, AROUND = 1, 2, 3, b"\xce", 8


@dataclass(frozen=True)
class Mould:
    """What messages of one kind have in common on the wire.

    Attributes:
        method: Basic.Publish with its arguments.
        encoding: of a body that is text.
        before, between, after: the properties before the headers, from there to the correlation id, and
            after it.
        table: the headers that all have, as they stand in the table of headers.
        names: of these headers.
        kwargsrepr: the header of that name, of messages that have none of their own.
        ids: the names of those that are the task id.
    """

    method: bytes
    encoding: str
    before: bytes
    between: bytes
    after: bytes
    table: bytes
    names: frozenset[str]
    kwargsrepr: str
    ids: tuple[str, ...]

    def parts(self, stored: Templated) -> tuple[bytes, bytes]:
        """Properties and body of one message."""
        id, parts = stored.id, stored.parts
        if parts.extra and not self.names.isdisjoint(parts.extra):
            table = dumps("F", [stored.content["arguments"]["headers"]])
        else:
            kwargsrepr = self.kwargsrepr if parts.kwargsrepr is None else parts.kwargsrepr
            own = dict.fromkeys(self.ids, id) | {"argsrepr": parts.argsrepr, "kwargsrepr": kwargsrepr}
            items = self.table + dumps("F", [own | (parts.extra or {})])[4:]
            table = pack(">I", len(items)) + items
        properties = b"".join((self.before, table, self.between, dumps("s", [id]), self.after))
        body = parts.body
        return properties, body.encode(self.encoding) if isinstance(body, str) else body


def mould(producer: Any, stored: Templated, arguments: Mapping[str, Any]) -> Mould | None:
    """The mould of a kind; None where kombu must make each of them.

    Arguments:
        producer: a kombu producer.
        stored: a message of the kind.
        arguments: of it, for `publish`; what it needs is declared.
    """
    # an exchange may be gone at any time: it is asked for before each message
    if arguments.get("exchange"):
        return None
    sample = _Sample(producer.channel)
    Producer(sample, auto_declare=False).publish(stored.parts.body, **arguments)
    properties = sample.message.properties
    names = [name for name, _ in Message.PROPERTIES]
    headers, id = names.index("application_headers"), names.index("correlation_id")
    present = [properties.get(name) is not None for name in names]
    if not (present[headers] and present[id]) or properties["application_headers"] != arguments["headers"]:
        return None
    flags = sum(1 << (15 - i) for i, there in enumerate(present) if there)
    all_headers = stored.template.content["arguments"]["headers"]
    common = {name: value for name, value in all_headers.items() if name not in OWN and value != ID}
    return Mould(
        pack(">HH", *Basic.Publish)
        + dumps("Bssbb", (0, sample.how["exchange"], sample.how["routing_key"], True, False)),
        arguments["content_encoding"],
        pack(">H", flags) + _serialized(properties, names[:headers]),
        _serialized(properties, names[headers + 1 : id]),
        _serialized(properties, names[id + 1 :]),
        dumps("F", [common])[4:],
        frozenset(all_headers),
        all_headers["kwargsrepr"],
        tuple(name for name, value in all_headers.items() if value == ID),
    )


def _serialized(properties: Mapping[str, Any], names: Sequence[str]) -> bytes:
    types = dict(Message.PROPERTIES)
    present = [name for name in names if properties.get(name) is not None]
    serialized: bytes = dumps(
        "".join(types[name] for name in present), [properties[name] for name in present]
    )
    return serialized


class Frames:
    """Gathers messages, and writes them together.

    Arguments:
        connection, channel: py-amqp's.
    """

    def __init__(self, connection: Any, channel: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._gathered: list[bytes] = []
        self.size = 0

    def add(self, mould: Mould, stored: Templated) -> None:
        """Gather one message. What can't be sent raises, and leaves nothing of it behind."""
        properties, body = mould.parts(stored)
        most = self._connection.frame_max - AROUND
        header = pack(">HHQ", Basic.CLASS_ID, 0, len(body)) + properties
        if len(header) > most:
            # RabbitMQ closes the connection for it
            raise ValueError(f"its headers have {len(properties)} bytes, RabbitMQ takes {most}")
        frames = [self._frame(METHOD, mould.method), self._frame(HEADER, header)]
        for start in range(0, len(body), most):
            frames.append(self._frame(BODY, body[start : start + most]))
        self._gathered += frames
        self.size += sum(map(len, frames))

    def _frame(self, type: int, carried: bytes) -> bytes:
        return pack(">BHI", type, self._channel.channel_id, len(carried)) + carried + END

    def flush(self) -> None:
        """Write what is gathered to the socket."""
        gathered, self._gathered, self.size = b"".join(self._gathered), [], 0
        self._connection.transport.write(gathered)


class _Sample:
    """A channel that keeps what it is given instead of publishing it."""

    def __init__(self, channel: Any) -> None:
        self.prepare_message = channel.prepare_message
        self.connection = channel.connection
        self.message: Any = None
        self.how: dict[str, Any] = {}

    def basic_publish(self, message: Any, **how: Any) -> None:
        self.message, self.how = message, how

"""RabbitMQ: messages of one kind as AMQP frames, many in one write to the socket.

kombu and py-amqp prepare each message as if they had never seen its like, and write each by itself: for RabbitMQ
and for this process that is a system call and a wake-up a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from amqp.spec import Basic
from kombu import Producer

#: Bytes that are gathered before they are written.
GATHERED = 65_536
#: The arguments of Basic.Publish: a reserved number, exchange, routing key, mandatory, immediate.
PUBLISH = "Bssbb"


@dataclass(frozen=True)
class Mould:
    """What messages of one kind have in common.

    Attributes:
        method: the arguments of Basic.Publish, as they go over the wire.
        encoding: of a body that is text.
        properties: of the message, but for what differs.
    """

    method: bytes
    encoding: str
    properties: dict[str, Any]

    def message(self, content: dict[str, Any]) -> Message:
        """One message, by what is stored of it."""
        body, arguments = content["body"], content["arguments"]
        return Message(
            body.encode(self.encoding) if isinstance(body, str) else body,
            **{
                **self.properties,
                "application_headers": arguments["headers"],
                "correlation_id": arguments["correlation_id"],
            },
        )


def mould(producer: Any, content: dict[str, Any], arguments: dict[str, Any]) -> Mould | None:
    """The mould of a kind; None where kombu must make each of them.

    Arguments:
        producer: a kombu producer.
        content: a stored message of the kind.
        arguments: of it, for `publish`; what it needs is declared.
    """
    # an exchange may be gone at any time; a time to live differs
    if arguments.get("exchange") or arguments.get("expiration") is not None:
        return None
    sample = _Sample(producer.channel)
    Producer(sample, auto_declare=False).publish(content["body"], **arguments)
    message, how = sample.message, sample.how
    if message.body is not content["body"] and not isinstance(content["body"], str):
        return None
    made = Mould(
        dumps(PUBLISH, (0, how["exchange"], how["routing_key"], True, False)),
        arguments["content_encoding"],
        message.properties,
    )
    said = made.message(content)
    # kombu has the last word: where it makes this very message in another way, it goes on making all
    return made if (said.body, said.properties) == (message.body, message.properties) else None


class Frames:
    """Gathers messages, and writes them together.

    Arguments:
        connection: py-amqp's.
        channel: the number of the channel.
    """

    def __init__(self, connection: Any, channel: int) -> None:
        self._connection = connection
        self._channel = channel
        self._write_frames = frame_writer(connection, self)
        self._gathered: list[bytes] = []
        self.size = 0

    def write(self, frames: memoryview | bytes) -> None:
        """Called by py-amqp's frame writer, as it would write to its transport; it uses its memory again."""
        self._gathered.append(bytes(frames))
        self.size += len(frames)

    def add(self, mould: Mould, content: dict[str, Any]) -> None:
        """Gather one message. What can't be sent raises, and leaves nothing of it behind."""
        count = len(self._gathered)
        try:
            self._write_frames(1, self._channel, Basic.Publish, mould.method, mould.message(content))
        except BaseException:
            del self._gathered[count:]
            raise

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

"""Redis: what kombu pushes for messages of one kind, worked out with the first of them.

kombu routes, declares and serializes each message as if it had never seen its like, which takes longer than all
that this package does with it. So it is shown a sample of the kind and its command is kept; what differs is put in.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import dumps, loads

#: Stand for what differs in the sample.
BODY, ID, HEADER = "\1body", "\1id", "\1header"


@dataclass(frozen=True)
class Envelope:
    """The LPUSH of messages of one kind.

    Attributes:
        key: the list, with whatever prefix it has.
        text: the value: JSON with `%(body)s`, `%(headers)s`, `%(id)s` and `%(tag)s` for what differs.
    """

    key: Any
    text: str

    def fill(self, content: dict[str, Any], tag: str) -> str:
        """The value for one message.

        Arguments:
            content: as stored.
            tag: its delivery tag, another one for each.
        """
        body, arguments = content["body"], content["arguments"]
        return self.text % {
            "body": b64encode(body.encode() if isinstance(body, str) else body).decode(),
            "headers": dumps(arguments["headers"]),
            "id": dumps(arguments["correlation_id"]),
            "tag": tag,
        }


def envelope(producer: Any, content: dict[str, Any], arguments: dict[str, Any]) -> Envelope | None:
    """The envelope of a kind; None where kombu must make each of them.

    Arguments:
        producer: a kombu producer whose transport has `Producer.batch`.
        content: a stored message of the kind.
        arguments: of it, for `publish`; what it needs is declared.
    """
    body = content["body"]
    # the bindings of an exchange may change, and are read for each message; a time to live differs
    if arguments.get("exchange") or arguments.get("expiration") is not None:
        return None
    if isinstance(body, str) and arguments["content_encoding"] != "utf-8":
        return None
    sample = {**arguments, "headers": {HEADER: 0}, "correlation_id": ID}
    found = _command(producer, BODY if isinstance(body, str) else BODY.encode(), sample)
    if found is None:
        return None
    key, text = found
    tag = loads(text)["properties"]["delivery_tag"]
    text = text.replace("%", "%%")
    for name, marker in (
        ("body", b64encode(BODY.encode()).decode()),
        ("headers", dumps({HEADER: 0})),
        ("id", dumps(ID)),
        ("tag", tag),
    ):
        text = text.replace(marker, f"%({name})s")
    made = Envelope(key, text)
    # kombu has the last word: where it writes this very message in another way, it goes on writing all
    said = _command(producer, body, arguments)
    if said is None or said != (key, made.fill(content, loads(said[1])["properties"]["delivery_tag"])):
        return None
    return made


def _command(producer: Any, body: Any, arguments: dict[str, Any]) -> tuple[Any, str] | None:
    """Key and value of the LPUSH that kombu makes of one message, which is not sent; None where it makes more."""
    try:
        with producer.batch() as batch:
            producer.publish(body, **arguments)
            commands = [each[0] for each in batch.state.session.pipeline.command_stack]
            raise _Seen
    except _Seen:
        pass
    if len(commands) != 1 or commands[0][0] != "LPUSH" or len(commands[0]) != 3:
        return None
    _, key, value = commands[0]
    return key, value


class _Seen(Exception):
    """Leaves kombu's batch without flushing it."""

"""Redis: what kombu pushes for messages of one kind, worked out with the first of them.

kombu routes, declares and serializes each message as if it had never seen its like, which takes longer than
all that this package does with it. So it is shown a sample, its command is kept, and what differs is put in.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
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

    def fill(self, content: Mapping[str, Any], tag: str) -> str:
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


def envelope(producer: Any, content: Mapping[str, Any], arguments: Mapping[str, Any]) -> Envelope | None:
    """The envelope of a kind; None where kombu must make each of them.

    Arguments:
        producer: a kombu producer whose transport has `Producer.batch`.
        content: a stored message of the kind.
        arguments: of it, for `publish`; what it needs is declared.
    """
    body = content["body"]
    # the bindings of an exchange may change, and kombu reads them for each message
    if arguments.get("exchange") or (isinstance(body, str) and arguments["content_encoding"] != "utf-8"):
        return None
    sample = {**arguments, "headers": {HEADER: 0}, "correlation_id": ID}
    found = _push(producer, BODY if isinstance(body, str) else BODY.encode(), sample)
    if found is None:
        return None
    key, text = found
    places = {
        "body": b64encode(BODY.encode()).decode(),
        "headers": dumps({HEADER: 0}),
        "id": dumps(ID),
        "tag": loads(text)["properties"]["delivery_tag"],
    }
    text = text.replace("%", "%%")
    for name, marker in places.items():
        text = text.replace(marker, f"%({name})s")
    made = Envelope(key, text)
    # kombu has the last word: where it pushes this very message in another way, it goes on pushing all
    said = _push(producer, body, arguments)
    if said is None or said[0] != key:
        return None
    told = loads(said[1])
    return made if told == loads(made.fill(content, told["properties"]["delivery_tag"])) else None


def _push(producer: Any, body: Any, arguments: Mapping[str, Any]) -> tuple[Any, str] | None:
    """Key and value of the LPUSH that kombu makes of one message, unsent; None where it makes another."""
    commands: list[tuple[Any, ...]] = []
    try:
        with producer.batch() as batch:
            # it writes into the headers of a message that it compresses
            producer.publish(body, **{**arguments, "headers": dict(arguments["headers"])})
            commands = [command for command, _ in batch.state.session.pipeline.command_stack]
            raise _Seen
    except _Seen:
        pass
    if [command[0] for command in commands] != ["LPUSH"] or len(commands[0]) != 3:
        return None
    return commands[0][1], commands[0][2]


class _Seen(Exception):
    """Leaves kombu's batch without flushing it."""

"""Redis: envelopes: what kombu pushes for the messages of one template, cut where they differ.

kombu routes, declares and serializes each message as if it had never seen its like, which takes longer than
all that this package does with it. So it makes one, of a message whose varying parts are marks. What the
pieces then say of another message is compared with what kombu says of it, so that no envelope is used that
is but nearly right.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import dumps

from celery_redis_expiry.template import EXTRA, KWARGS, Parts, Template

#: The list and the value that kombu pushes for a stored message's content.
Pushed = Callable[[dict[str, Any]], tuple[str, str]]
#: Stand for what differs. Nothing in them is written in another way in JSON.
MARKS = {"id": "<~id~>", "args": "<~args~>", "kwargs": "<~kwargs~>", "body": "[~body~]"}
#: Stands where a message's own headers come.
HEADER = '"<~header~>": 0'
#: What differs.
SLOTS = ("body", "args", "kwargs", "extra", "id", "tag")
#: Another message, to try the pieces with.
TRIAL = {"id": "5f2c", "args": "('1',)", "kwargs": "{'2': 3}", "body": '["4", 5]'}
TRIAL_HEADER = '"own": {"6": [7, null]}'


@dataclass(frozen=True)
class Envelope:
    """Makes the messages of one template.

    Attributes:
        queue: the list that they are pushed onto, with whatever prefix it has.
        pieces: of the message, in JSON; every other one is what differs.
        slots: of each of those, which of `SLOTS` it is.
        kwargs: what stands for the keyword arguments in the headers where a message has none.
    """

    queue: str
    pieces: list[str]
    slots: list[int]
    kwargs: str

    def fill(self, parts: Parts, id: str, tag: str) -> str:
        """One message.

        Arguments:
            parts: what its stored message has of its own.
            id: the task id.
            tag: its delivery tag, another one for each.
        """
        body = parts.body
        values = (
            b2a_base64(body.encode() if isinstance(body, str) else body, newline=False).decode(),
            _quoted(parts.argsrepr),
            self.kwargs if parts.kwargsrepr is None else _quoted(parts.kwargsrepr),
            f", {dumps(parts.extra)[1:-1]}" if parts.extra else "",
            _quoted(id),
            tag,
        )
        pieces = self.pieces.copy()
        pieces[1::2] = [values[slot] for slot in self.slots]
        return "".join(pieces)


def envelope(template: Template, pushed: Pushed) -> Envelope | None:
    """What makes a template's messages; None where kombu must make them.

    Raises what `pushed` does.
    """
    if "expires" in template.content or template.content.get("kind") != "message":
        return None
    if (template.content["arguments"].get("content_encoding") or "") not in ("utf-8", "binary"):
        return None  # kombu would encode the text otherwise
    queue, text = pushed(template.fill(_rest(MARKS, HEADER), MARKS["id"]))
    told = json.loads(text)
    if told["properties"].get("body_encoding") != "base64":
        return None
    places = {
        f", {HEADER}": "extra",
        told["body"]: "body",
        told["properties"]["delivery_tag"]: "tag",
        **{mark: name for name, mark in MARKS.items() if name != "body"},
    }
    pieces = re.split("(" + "|".join(map(re.escape, places)) + ")", text)
    made = Envelope(
        queue,
        pieces,
        [SLOTS.index(places[piece]) for piece in pieces[1::2]],
        _quoted(template.content["arguments"]["headers"]["kwargsrepr"]),
    )
    return made if _tells_the_truth(made, template, pushed) else None


def _rest(parts: dict[str, str], header: str) -> bytes:
    """What a stored message that consists of these parts has beside its template."""
    rest = "\0".join((parts["args"], parts["kwargs"], header, parts["body"]))
    return bytes([KWARGS | EXTRA]) + rest.encode()


def _tells_the_truth(made: Envelope, template: Template, pushed: Pushed) -> bool:
    """Whether the pieces, put together for another message, are what kombu pushes for it."""
    rest, id = _rest(TRIAL, TRIAL_HEADER), TRIAL["id"]
    queue, text = pushed(template.fill(rest, id))
    tag = json.loads(text)["properties"]["delivery_tag"]
    return (queue, text) == (made.queue, made.fill(template.parts(rest), id, tag))


def _quoted(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return str(dumps(text))[1:-1]

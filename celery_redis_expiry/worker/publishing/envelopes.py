"""Redis: envelopes: what kombu pushes for the messages of one template, cut where they differ.

kombu routes, declares and serializes each message as if it had never seen its like, which takes longer than
all that this package does with it. So it makes one, of a message whose varying parts are marks. What the
pieces then say of another message is compared with what kombu says of it, so that no envelope is used that
is but nearly right.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Callable
from typing import Any

from kombu.utils.json import dumps

from celery_redis_expiry.template import EXTRA, KWARGS, Template
from celery_redis_expiry.timer import Templated

#: The list and the value that kombu pushes for a stored message's content.
Pushed = Callable[[dict[str, Any]], tuple[str, str]]
#: Stand for what differs. Nothing in them is written in another way in JSON.
MARKS = {"id": "<~id~>", "args": "<~args~>", "kwargs": "<~kwargs~>", "body": "[~body~]"}
#: A header of this name stands where a message's own ones come.
HEADER = "<~header~>"
#: Another message, to try the pieces with.
TRIAL = {"id": "5f2c", "args": "('1',)", "kwargs": "{'2': 3}", "body": '["4", 5]'}
TRIAL_HEADER = '"own": {"6": [7, null]}'


def envelope(template: Template, pushed: Pushed) -> dict[str, Any] | None:
    """What `fire.lua` makes messages by, JSON-able; None where kombu must make them.

    Raises what `pushed` does.
    """
    if "expires" in template.content or template.content.get("kind") != "message":
        return None
    if (template.content["arguments"].get("content_encoding") or "") not in ("utf-8", "binary"):
        return None  # kombu would encode the text otherwise
    queue, text = pushed(_filled(template, MARKS, f'"{HEADER}": 0'))
    told = json.loads(text)
    if told["properties"].get("body_encoding") != "base64":
        return None
    places = {
        f', "{HEADER}": 0': "extra",
        told["body"]: "body",
        told["properties"]["delivery_tag"]: "tag",
        **{mark: name for name, mark in MARKS.items() if name != "body"},
    }
    pieces = re.split("(" + "|".join(map(re.escape, places)) + ")", text)
    slots = [places[piece] for piece in pieces[1::2]]
    pieces[1::2] = [""] * len(slots)
    made = {"queue": queue, "pieces": pieces, "slots": slots, "values": {}, **_body(template)}
    return made if _tells_the_truth(made, template, pushed) else None


class Envelope:
    """The messages of one kind, put together here; `fire.lua` does the same in Redis.

    Arguments:
        made: what `envelope` made.
        template: of the kind.

    Attributes:
        queue: the list that they are pushed onto, with whatever prefix it has.
    """

    def __init__(self, made: dict[str, Any], template: Template) -> None:
        self.queue: str = made["queue"]
        self._pieces: list[str] = made["pieces"]
        self._slots: list[str] = made["slots"]
        self._kwargs = _quoted(template.content["arguments"]["headers"]["kwargsrepr"])

    def fill(self, stored: Templated, tag: str) -> str:
        """The value for one message.

        Arguments:
            tag: its delivery tag, another one for each.
        """
        parts, body = stored.parts, stored.parts.body
        values = {
            "id": _quoted(stored.id),
            "args": _quoted(parts.argsrepr),
            "kwargs": self._kwargs if parts.kwargsrepr is None else _quoted(parts.kwargsrepr),
            "extra": f", {dumps(parts.extra)[1:-1]}" if parts.extra else "",
            "body": b2a_base64(body.encode() if isinstance(body, str) else body, newline=False).decode(),
            "tag": tag,
        }
        pieces = self._pieces.copy()
        pieces[1::2] = [values[name] for name in self._slots]
        return "".join(pieces)


def _quoted(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return str(dumps(text))[1:-1]


def _filled(template: Template, parts: dict[str, str], header: str) -> dict[str, Any]:
    """The content of a message that consists of these parts."""
    rest = "\0".join((parts["args"], parts["kwargs"], header, parts["body"]))
    return template.fill(bytes([KWARGS | EXTRA]) + rest.encode(), parts["id"])


def _body(template: Template) -> dict[str, Any]:
    """What stands around the varying part of a body, what follows in base64 for each length of the part."""
    suffix = template.suffix.encode()
    return {
        "prefix": template.prefix or "",
        "heads": [suffix[:i].decode() for i in range(3)],
        "tails": [b64encode(suffix[i:]).decode() for i in range(3)],
    }


def _tells_the_truth(made: dict[str, Any], template: Template, pushed: Pushed) -> bool:
    """Whether the pieces, put together for another message, are what kombu pushes for it."""
    queue, text = pushed(_filled(template, TRIAL, TRIAL_HEADER))
    body = f"{template.prefix or ''}{TRIAL['body']}{template.suffix}"
    values = {
        **TRIAL,
        "extra": f", {TRIAL_HEADER}",
        "body": b64encode(body.encode()).decode(),
        "tag": json.loads(text)["properties"]["delivery_tag"],
    }
    pieces = list(made["pieces"])
    pieces[1::2] = [values[name] for name in made["slots"]]
    return bool(queue == made["queue"] and "".join(pieces) == text)

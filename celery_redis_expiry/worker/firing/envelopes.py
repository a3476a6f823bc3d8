"""Envelopes: what kombu pushes for the messages of one template, cut where they differ.

kombu itself makes them, of a message whose varying parts are marks. What the pieces then say of another
message is compared with what kombu says of it, so that no envelope is used that is but nearly right.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery_redis_expiry.template import COMMA, EXTRA, KWARGS, LIKE_JSON, Template, like_json

#: The list and the value that kombu pushes for a stored message's content.
Pushed = Callable[[dict[str, Any]], tuple[str, str]]
#: Stand for what differs. Nothing in them is written in another way in JSON.
MARKS = {"id": "<~id~>", "args": "<~args~>", "kwargs": "<~kwargs~>", "body": "[~body~]"}
#: A header of this name stands where a message's own ones come.
HEADER = "<~header~>"
#: Another message, to try the pieces with.
TRIAL = {"id": "5f2c", "args": "('1',)", "kwargs": "{'2': 3}", "body": '["4", 5]'}
TRIAL_HEADER = '"own": {"6": [7, null]}'
#: What differs.
SLOTS = ("body", "args", "kwargs", "extra", "id", "tag")
#: What stored messages begin with that have nothing but arguments in JSON; what those end with; all that a
#: beginning may say.
PLAIN, ENDS = (bytes([LIKE_JSON]), bytes([LIKE_JSON | COMMA])), (b"]", b"}")
KNOWN = LIKE_JSON | COMMA | KWARGS | EXTRA
#: The parts of a stored message's headers in their order, and what bounds them in JSON, to be read alone.
BOUNDS = {"args": ('["', '"]'), "kwargs": ('["', '"]'), "extra": ("{", "}")}
#: Say that a part is there; of the arguments, that they are not.
FLAGS = {"args": LIKE_JSON, "kwargs": KWARGS, "extra": EXTRA}


@dataclass(frozen=True)
class Envelope:
    """Makes the messages of one template.

    Attributes:
        queue: the list that they are put into.
        pieces: of the message, in JSON; every other one is what differs.
        slots: of each of those, which of `SLOTS` it is.
        prefix, suffix: of the body, around what differs.
        in_json: whether what differs is arguments in JSON.
    """

    queue: str
    pieces: list[str]
    slots: list[int]
    prefix: bytes
    suffix: bytes
    in_json: bool

    def fill(self, rest: bytes, id: str, tag: str) -> str | None:
        """One message; None where kombu must make it, or its arguments are cut off.

        Arguments:
            rest: what its stored message has beside the template.
            id: its task id, as it stands in a JSON string.
            tag: its delivery tag, another one for each.
        """
        kwargs, extra = "{}", ""
        # as a rule; a burst has no time for the others' questions
        if rest[:1] in PLAIN:
            middle = rest[1:]
            args = _like_json(middle, comma=rest[0] & COMMA)
        else:
            args, kwargs, extra, middle = _parts(rest)
        if args is None or (self.in_json and (middle[:1] != b"[" or middle[-1:] not in ENDS)):
            return None
        body = b2a_base64(self.prefix + middle + self.suffix, newline=False).decode()
        values = (body, args, kwargs, extra, id, tag)
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
    made = Envelope(
        queue,
        pieces,
        [SLOTS.index(places[piece]) for piece in pieces[1::2]],
        (template.prefix or "").encode(),
        template.suffix.encode(),
        in_json=bool(template.prefix),
    )
    return made if _tells_the_truth(made, template, pushed) else None


def _filled(template: Template, parts: dict[str, str], header: str) -> dict[str, Any]:
    """The content of a message that consists of these parts."""
    return template.fill(_rest(parts, header), parts["id"])


def _rest(parts: dict[str, str], header: str) -> bytes:
    rest = "\0".join((parts["args"], parts["kwargs"], header, parts["body"]))
    return bytes([KWARGS | EXTRA]) + rest.encode()


def _tells_the_truth(made: Envelope, template: Template, pushed: Pushed) -> bool:
    """Whether the pieces, put together for another message, are what kombu pushes for it."""
    queue, text = pushed(_filled(template, TRIAL, TRIAL_HEADER))
    tag = json.loads(text)["properties"]["delivery_tag"]
    return queue == made.queue and text == made.fill(_rest(TRIAL, TRIAL_HEADER), TRIAL["id"], tag)


def _parts(rest: bytes) -> tuple[str | None, str, str, bytes]:
    """The parts of a stored message's headers, as they stand in JSON, and what differs of its body.

    See `Template.fill`; None for the arguments where one is damaged, or can't be written as kombu would.
    """
    flags, at = rest[0] if rest else 0xFF, 1
    told: dict[str, str | None] = {"args": "", "kwargs": "{}", "extra": ""}
    for name, bounds in BOUNDS.items():
        if bool(flags & FLAGS[name]) != (name == "args"):
            stop = rest.find(b"\0", at)
            told[name], at = (_part(rest[at:stop], *bounds), stop + 1) if stop > 0 else (None, at)
    middle = rest[at:]
    if flags & LIKE_JSON:
        told["args"] = _like_json(middle, comma=flags & COMMA)
    args, kwargs, extra = told["args"], told["kwargs"], told["extra"]
    if flags > KNOWN or kwargs is None or extra is None:
        return None, "", "", b""
    return args, kwargs, f", {extra}" if extra else "", middle


def _like_json(middle: bytes, *, comma: int) -> str | None:
    """The `argsrepr` of arguments that JSON writes like it, as it stands in JSON; None where it can't."""
    text = _printable(middle)
    if text is None:
        return None
    args = like_json(text, comma=bool(comma))
    return args.replace("\\", "\\\\") if "\\" in args else args


def _part(raw: bytes, before: str, after: str) -> str | None:
    """A part as it stands in JSON: between the quotes of a string, or in an object. None where it can't."""
    text = _printable(raw)
    if text is not None and (before == "{" or '"' in text or "\\" in text):
        try:
            found = json.loads(f"{before}{text}{after}")
        except ValueError:
            return None
        if before != "{" and len(found) != 1:
            return None
    return text


def _printable(raw: bytes) -> str | None:
    """Its text, where that is nothing that JSON writes otherwise."""
    if not raw.isascii():
        return None
    text = raw.decode()
    return text if text.isprintable() else None

"""Envelopes: what kombu pushes for the messages of one template, cut where they differ.

kombu itself makes them, of a message whose varying parts are marks. What the pieces then say of another
message is compared with what kombu says of it, so that no envelope is used that is but nearly right.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

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
#: The parts of a stored message's headers in their order, and what bounds them in JSON, to be read alone.
BOUNDS = {"args": ('["', '"]'), "kwargs": ('["', '"]'), "extra": ("{", "}")}
#: Say that a part is there; of the arguments, that they are not.
FLAGS = {"args": LIKE_JSON, "kwargs": KWARGS, "extra": EXTRA}


class _Parts(NamedTuple):
    """The parts of a stored message's headers, as they stand in JSON, and what differs of its body."""

    args: str
    kwargs: str
    extra: str
    middle: bytes


@dataclass(frozen=True)
class Envelope:
    """Makes the messages of one template.

    Attributes:
        queue: the list that they are put into.
        text: the message: JSON with `%(body)s`, `%(id)s`, `%(args)s` and the like for what differs.
        prefix, suffix: of the body, around what differs.
        in_json: whether what differs is arguments in JSON.
    """

    queue: str
    text: str
    prefix: bytes
    suffix: bytes
    in_json: bool

    def fill(self, rest: bytes, id: str, tag: str) -> str | None:
        """One message; None where kombu must make it, or its arguments are cut off.

        Arguments:
            rest: what its stored message has beside the template.
            tag: its delivery tag, another one for each.
        """
        parts = _parts(rest)
        if parts is None:
            return None
        middle = parts.middle
        if self.in_json and (middle[:1] != b"[" or middle[-1:] not in (b"]", b"}")):
            return None
        return self.text % {
            "id": id if _is_plain(id) else json.dumps(id)[1:-1],
            "args": parts.args,
            "kwargs": parts.kwargs,
            "extra": parts.extra,
            "body": b64encode(self.prefix + middle + self.suffix).decode(),
            "tag": tag,
        }


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
    pieces[::2] = [piece.replace("%", "%%") for piece in pieces[::2]]
    pieces[1::2] = [f"%({places[piece]})s" for piece in pieces[1::2]]
    made = Envelope(
        queue,
        "".join(pieces),
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


def _parts(rest: bytes) -> _Parts | None:
    """See `Template.fill`; None where they are damaged, or can't be written as kombu would."""
    flags, at = rest[0] if rest else 0xFF, 1
    if flags > (LIKE_JSON | COMMA | KWARGS | EXTRA):
        return None
    told = {"args": "", "kwargs": "{}", "extra": ""}
    for name, bounds in BOUNDS.items() if flags not in (LIKE_JSON, LIKE_JSON | COMMA) else ():
        if bool(flags & FLAGS[name]) != (name == "args"):
            stop = rest.find(b"\0", at)
            part = None if stop < 0 else _part(rest[at:stop], *bounds)
            if part is None:
                return None
            told[name], at = part, stop + 1
    middle = rest[at:]
    if flags & LIKE_JSON:
        if not (middle.isascii() and (text := middle.decode()).isprintable()):
            return None
        told["args"] = like_json(text, comma=bool(flags & COMMA)).replace("\\", "\\\\")
    if told["extra"]:
        told["extra"] = f", {told['extra']}"
    return _Parts(told["args"], told["kwargs"], told["extra"], middle)


def _is_plain(text: str) -> bool:
    """Whether it stands in JSON as it is."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _part(raw: bytes, before: str, after: str) -> str | None:
    """A part as it stands in JSON: between the quotes of a string, or in an object. None where it can't."""
    if not (raw.isascii() and (text := raw.decode()).isprintable()):
        return None
    if before == "{" or not _is_plain(text):
        try:
            found = json.loads(f"{before}{text}{after}")
        except ValueError:
            return None
        if before != "{" and len(found) != 1:
            return None
    return text

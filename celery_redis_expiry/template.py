"""What stored messages of one kind have in common, kept once; each timer keeps what differs.

Of a timer with two small arguments that is a tenth of its message. What varies from call to call by its
nature (the task id, the arguments, who is the parent) is never in a template: each call would make one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from kombu.utils.json import dumps, loads

#: Bytes of the digest that stored messages name their template by. Two templates of one name are told apart.
REF = 6
#: How many templates a process makes: beyond that something varies that should not, and messages are stored
#: whole.
MOST = 2000
#: Headers that are the same for every call of a kind.
CONSTANT = frozenset(
    {
        *("lang", "task", "shadow", "eta", "retries", "timelimit", "origin", "ignore_result"),
        *("replaced_task_nesting", "stamped_headers", "stamps"),
    }
)
#: Headers that are the same while they say nothing.
EMPTY = frozenset({"expires", "group", "group_index", "root_id", "parent_id"})
#: What a stored message that has a template may consist of.
CONTENT = frozenset({"kind", "task", "body", "declare", "arguments", "expires"})
#: What is written into a template in place of the task id.
ID = "\0id"

#: What the first byte after the template's name says of a message: its `argsrepr` is the arguments' JSON in
#: Python's words; with the comma of a tuple of one; its `kwargsrepr` is its own; it has further headers.
LIKE_JSON, COMMA, KWARGS, EXTRA = 1, 2, 4, 8

#: Between the arguments and the rest of a message body of Celery's protocol 2.
EMBED = ', {"callbacks": '


class Parts(NamedTuple):
    """What a message has of its own.

    Attributes:
        argsrepr: a header.
        kwargsrepr: a header; None for the template's.
        extra: further headers.
        body: the whole of it.
    """

    argsrepr: str
    kwargsrepr: str | None
    extra: dict[str, Any] | None
    body: str | bytes


@dataclass(frozen=True)
class Template:
    """What messages of one kind have in common.

    Attributes:
        ref: its name, `REF` bytes.
        text: as it lies in Redis.
        content: the stored content; the task id is `ID` there, what differs is missing.
        prefix, suffix: of the body; None where the body is bytes.
    """

    ref: bytes
    text: bytes = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)
    prefix: str | None
    suffix: str = field(default="", repr=False)

    @classmethod
    def read(cls, text: bytes) -> Template:
        """Raises ValueError, LookupError or TypeError for what `split` did not write."""
        told = loads(text.decode())
        ref = hashlib.sha256(text).digest()[:REF]
        headers = told["content"]["arguments"]["headers"]
        if not isinstance(headers, dict):
            raise TypeError("its headers are no mapping")
        return cls(ref, text, told["content"], told["prefix"], told["suffix"])

    def parts(self, rest: bytes) -> Parts:
        """What one stored message has of its own.

        Arguments:
            rest: what `split` gave.

        Raises:
            ValueError, LookupError: `split` did not write it.
        """
        flags, rest = rest[0], rest[1:]
        argsrepr, kwargsrepr, extra = "", None, None
        if not flags & LIKE_JSON:
            escaped, rest = _until_nul(rest)
            argsrepr = _string(escaped)
        if flags & KWARGS:
            escaped, rest = _until_nul(rest)
            kwargsrepr = _string(escaped)
        if flags & EXTRA:
            escaped, rest = _until_nul(rest)
            extra = loads("{" + escaped.decode() + "}")
        if self.prefix and rest[:1] + rest[-1:] not in (b"[]", b"[}"):
            raise ValueError("its arguments are cut off")
        if self.prefix is None and not flags & LIKE_JSON:
            return Parts(argsrepr, kwargsrepr, extra, rest)
        middle = rest.decode()
        if flags & LIKE_JSON:
            argsrepr = like_json(middle, comma=bool(flags & COMMA))
        return Parts(
            argsrepr, kwargsrepr, extra, rest if self.prefix is None else self.prefix + middle + self.suffix
        )

    def whole(self, parts: Parts, id: str) -> dict[str, Any]:
        """The content of a stored message that consists of these parts."""
        arguments = dict(self.content["arguments"])
        headers = {name: id if value == ID else value for name, value in arguments["headers"].items()}
        headers["argsrepr"] = parts.argsrepr
        if parts.kwargsrepr is not None:
            headers["kwargsrepr"] = parts.kwargsrepr
        if parts.extra:
            headers.update(parts.extra)
        arguments["headers"] = headers
        arguments["correlation_id"] = id
        return {**self.content, "body": parts.body, "arguments": arguments}

    def fill(self, rest: bytes, id: str) -> dict[str, Any]:
        """Both in one: raises what `parts` does."""
        return self.whole(self.parts(rest), id)


def split(content: Mapping[str, Any], id: str) -> tuple[Template, bytes] | None:
    """The template of a stored message, and what differs; None where it must be stored whole."""
    if content.get("kind") != "message" or set(content) - CONTENT:
        return None
    arguments = content.get("arguments")
    headers = arguments.get("headers") if isinstance(arguments, Mapping) else None
    if arguments is None or not isinstance(headers, dict) or headers.get("id") != id or headers.get("stamps"):
        return None
    argsrepr, kwargsrepr = headers.get("argsrepr"), headers.get("kwargsrepr")
    if not isinstance(argsrepr, str) or not isinstance(kwargsrepr, str):
        return None
    if "expiration" in arguments or arguments.get("correlation_id") != id:
        return None
    kept: dict[str, Any] = {"argsrepr": "", "kwargsrepr": "{}"}
    extra = {}
    for name, value in headers.items():
        if name in CONSTANT or (name in EMPTY and value is None):
            kept[name] = value
        elif value == id:
            kept[name] = ID
        elif name not in kept:
            extra[name] = value
    prefix, middle, suffix = _parts(content["body"])
    template = _template(
        dumps(
            {
                "content": {
                    **{name: value for name, value in content.items() if name != "body"},
                    "arguments": {**arguments, "correlation_id": ID, "headers": kept},
                },
                "prefix": prefix,
                "suffix": suffix,
            }
        ).encode()
    )
    if template is None:
        return None
    reprs = argsrepr, kwargsrepr
    return template, rest_of(middle, *reprs, dumps(extra)[1:-1] if extra else "", in_json=bool(prefix))


def rest_of(middle: Any, argsrepr: str, kwargsrepr: str, extra: str = "", *, in_json: bool = True) -> bytes:
    """What one message has beside its template.

    Arguments:
        middle: of its body: text in JSON (`in_json`), or what a serializer made.
        extra: its further headers, as they stand in a JSON object.
    """
    flags, rest = 0, b""
    if in_json and like_json(middle, comma=False) == argsrepr:
        flags |= LIKE_JSON
    elif in_json and like_json(middle, comma=True) == argsrepr:
        flags |= LIKE_JSON | COMMA
    else:
        rest += _escaped(argsrepr)
    if kwargsrepr != "{}":
        flags |= KWARGS
        rest += _escaped(kwargsrepr)
    if extra:
        flags |= EXTRA
        rest += extra.encode() + b"\0"
    return bytes([flags]) + rest + (middle if isinstance(middle, bytes) else middle.encode())


def rest_like_json(middle: str, *, comma: bool, extra: str = "") -> bytes:
    """The same where it is known that `like_json` tells the `repr` of its arguments, and there are no others.

    Arguments:
        comma: as `like_json` takes it: of a tuple of one.
    """
    flags = LIKE_JSON | (COMMA if comma else 0) | (EXTRA if extra else 0)
    return b"%c%b%b" % (flags, extra.encode() + b"\0" if extra else b"", middle.encode())


def like_json(middle: str, *, comma: bool) -> str:
    """The `repr` of a tuple, by the JSON of the list, as far as they are written the same way."""
    return f"({middle[1:-1]}{',' if comma else ''})".replace('"', "'")


def _parts(body: Any) -> tuple[str | None, Any, str]:
    """Prefix, what differs, and suffix of a body."""
    if not isinstance(body, str):
        return None, body, ""
    end = body.rfind(EMBED)
    if not body.startswith("[[") or end < 0:
        return "", body, ""
    middle, suffix = body[1:end], body[end:]
    if middle.endswith("], {}"):
        middle, suffix = middle[:-4], ", {}" + suffix
    return "[", middle, suffix


_templates: dict[bytes, Template] = {}


def _template(text: bytes) -> Template | None:
    found = _templates.get(text)
    if found is None and len(_templates) < MOST:
        found = _templates[text] = Template.read(text)
    return found


@lru_cache(maxsize=MOST)
def template(text: bytes) -> Template:
    """The template that lies in Redis. Raises as `Template.read` does."""
    return Template.read(text)


def _escaped(text: str) -> bytes:
    """As it stands between the quotes of a JSON string: no NUL in it."""
    return json.dumps(text)[1:-1].encode() + b"\0"


def _string(escaped: bytes) -> str:
    return str(json.loads(b'"' + escaped + b'"'))


def _until_nul(rest: bytes) -> tuple[bytes, bytes]:
    found, nul, after = rest.partition(b"\0")
    if not nul:
        raise ValueError("it is cut off")
    return found, after

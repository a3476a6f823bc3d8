"""What a call fills the template of its kind with: arguments, in JSON and as people see them, and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from json import JSONEncoder
from math import isfinite
from typing import Any

from kombu import serialization
from kombu.utils.json import dumps

from celery_redis_expiry.template import Template, rest_like_json, rest_of
from celery_redis_expiry.timer import Stored

SCALARS = frozenset({str, int, float, bool, type(None)})
#: Headers by which a message tells whose child it is.
PARENTS = ("root_id", "parent_id")

_encode = JSONEncoder().encode
#: ASCII to be shown, without quotes and backslashes.
_PLAIN = re.compile(r"[ !#-&(-\[\]-~]*").fullmatch


class Filled(Stored):
    """A stored message that was made as a template and what differs; the whole is made for who asks.

    Arguments:
        id: the task id.
        parts: the template, and what differs.
    """

    _parts: tuple[Template, bytes]

    def __init__(self, id: str, parts: tuple[Template, bytes]) -> None:
        # the content stays away: `content` below makes it
        self.__dict__.update(id=id, guard=None, since=None, _parts=parts)

    @cached_property
    def content(self) -> dict[str, Any]:
        template, rest = self._parts
        return template.fill(rest, self.id)

    def split(self) -> tuple[Template, bytes]:
        return self._parts


def own_headers(parent: Any, given: Any, template: Template) -> dict[str, Any] | None:
    """The headers of a message beyond its template's; None where they would change what that has.

    Arguments:
        parent: the task that makes the call, or None.
        given: by the caller, or None.
    """
    own: dict[str, Any] = {}
    if parent is not None:
        own = dict(
            zip(PARENTS, (parent.request.root_id or parent.request.id, parent.request.id), strict=True)
        )
    if given:
        taken = {*template.content["arguments"]["headers"], *PARENTS}
        if type(given) is not dict or not are_scalars(given.values()) or taken & given.keys():
            return None
        own.update(given)
    return own


def differing(amqp: Any, task: str, args: tuple[Any, ...], kwargs: Any, headers: Mapping[str, Any]) -> bytes:
    """What the message of a call has beside its template, as `template.split` has it.

    Arguments:
        amqp: of the app.
        headers: further ones, scalars.

    Raises:
        EncodeError: the arguments are nothing for JSON.
    """
    extra = dumps(headers)[1:-1] if headers else ""
    longest = min(amqp.argsrepr_maxsize or 0, amqp.kwargsrepr_maxsize or 0) / 2
    alike = None if kwargs else _alike(args)
    if alike is not None and len(alike) < longest:
        return rest_like_json(alike, comma=len(args) == 1, extra=extra)
    scalars = are_scalars(args) and (not kwargs or (are_scalars(kwargs) and are_scalars(kwargs.values())))
    json = _json if scalars else _json_of_any
    middle = f"{json(args)}, {json(kwargs)}" if kwargs else json(args)
    if scalars and len(middle) < longest:
        argsrepr = f"({', '.join(map(_shown, args))}{',' if len(args) == 1 else ''})"
        named = [f"{_shown(key)}: {_shown(value)}" for key, value in kwargs.items()]
        kwargsrepr = f"{{{', '.join(named)}}}" if named else "{}"
    else:
        own = amqp.create_task_message("", task, args, kwargs).headers
        argsrepr, kwargsrepr = own["argsrepr"], own["kwargsrepr"]
    return rest_of(middle, argsrepr, kwargsrepr, extra)


def are_scalars(values: Iterable[Any]) -> bool:
    """Whether they are texts, numbers and the like; nothing derived from them, which may look otherwise."""
    return SCALARS.issuperset(map(type, values))


def _alike(args: Iterable[Any]) -> str | None:
    """Arguments in JSON, where Python and every JSON library write them alike but for quotes; else None."""
    shown = []
    for value in args:
        if type(value) is str and _PLAIN(value):
            shown.append(f'"{value}"')
        elif type(value) is int or (type(value) is float and isfinite(value)):
            shown.append(repr(value))
        else:
            return None
    return f"[{', '.join(shown)}]"


def _json(value: Any) -> str:
    text = _encode(value)
    # how a text is escaped is for the serializer to say
    return _json_of_any(value) if "\\" in text else text


def _json_of_any(value: Any) -> str:
    return str(serialization.dumps(value, "json")[2])


def _shown(scalar: Any) -> str:
    """As Celery's `saferepr` shows it, which takes many times as long."""
    if type(scalar) is str:
        escaped = scalar.replace("'", "\\'")
        return f"'{escaped}'"
    return str(scalar)

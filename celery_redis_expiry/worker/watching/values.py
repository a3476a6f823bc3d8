"""Snapshots of the values of watched keys: taken before these expire, since Redis shows them no more then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kombu.utils.json import dumps

from celery_redis_expiry.timer import as_datetime

#: The largest value that is taken, in bytes of a string, or in elements; one that is larger is left out.
LARGEST = 64 * 1024
MOST = 1000


class _Kind(NamedTuple):
    """How a type of Redis is measured, read, and turned into what JSON has."""

    size: tuple[str, ...]
    read: tuple[Any, ...]
    most: int
    plain: Any


def _text(raw: Any) -> Any:
    """As text where that is UTF-8, else as bytes, which Celery's JSON carries."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _list(raw: Any) -> list[Any]:
    return [_text(element) for element in raw]


def _pairs(raw: Any) -> list[list[Any]]:
    pairs = raw.items() if isinstance(raw, dict) else raw
    return [[_text(field), _text(value)] for field, value in pairs]


def _mapping(raw: Any) -> Any:
    pairs = _pairs(raw)
    # JSON has no names that are bytes
    return dict(pairs) if all(isinstance(field, str) for field, _ in pairs) else pairs


def _scored(raw: Any) -> list[list[Any]]:
    return [[_text(member), score] for member, score in raw]


def _entries(raw: Any) -> list[list[Any]]:
    return [[_text(id), _mapping(fields or {})] for id, fields in raw]


KINDS = {
    b"string": _Kind(("strlen",), ("get",), LARGEST, _text),
    b"list": _Kind(("llen",), ("lrange", 0, -1), MOST, _list),
    b"set": _Kind(("scard",), ("smembers",), MOST, lambda raw: sorted(_list(raw), key=repr)),
    b"hash": _Kind(("hlen",), ("hgetall",), MOST, _mapping),
    b"zset": _Kind(("zcard",), ("zrange", 0, -1, False, True), MOST, _scored),
    b"stream": _Kind(("xlen",), ("xrange",), MOST, _entries),
}


def snapshots(client: Any, keys: Sequence[bytes], now: int) -> dict[bytes, bytes]:
    """What is kept of the value of each key, as far as it is there and not too large.

    Arguments:
        client: of redis-py.
        now: on Redis's clock, ms.
    """
    types = _asked(client, [(key, ("type",)) for key in keys])
    kinds = {key: KINDS[type] for key, type in zip(keys, types, strict=True) if type in KINDS}
    sizes = _asked(client, [(key, kind.size) for key, kind in kinds.items()])
    small = {
        key: kind
        for (key, kind), size in zip(kinds.items(), sizes, strict=True)
        if isinstance(size, int) and size <= kind.most
    }
    raw = _asked(client, [(key, kind.read) for key, kind in small.items()])
    at = as_datetime(now).isoformat()
    taken = {}
    for (key, kind), value in zip(small.items(), raw, strict=True):
        # one that expired or became another type meanwhile has no value, or an error in its place
        if value is None or isinstance(value, Exception):
            continue
        snapshot = dumps({"value": kind.plain(value), "at": at}).encode()
        if len(snapshot) <= 2 * LARGEST:
            taken[key] = snapshot
    return taken


def _asked(client: Any, calls: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Any]:
    if not calls:
        return []
    pipe = client.pipeline(transaction=False)
    for key, (command, *arguments) in calls:
        getattr(pipe, command)(key, *arguments)
    answers: list[Any] = pipe.execute(raise_on_error=False)
    return answers

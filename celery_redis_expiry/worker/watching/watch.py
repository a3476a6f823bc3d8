"""What is watched: a pattern of keys in one Redis, with those who are to be told."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from celery_redis_expiry.connections import Location, locate, locate_watched
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.watching import Handler, handlers_of

logger = logging.getLogger(__name__)

#: Patterns that match about every key.
EVERYTHING = frozenset({b"*", b"**", b"?*", b"*?"})
#: Keyspace events of everything that takes a key away or may change its TTL: generic commands, expiry,
#: eviction, and what may overwrite: strings, and the lists, sets and sorted sets that store commands make.
FLAGS = "Kgxe$lsz"
#: What changes a value beside these: hashes and streams.
VALUE_FLAGS = "ht"


@dataclass(frozen=True)
class Watch:
    """One pattern in one Redis.

    Attributes:
        id: by which its ledger is found again: the same in every worker and release.
        field: a pattern of fields, where fields of hashes are watched, and not keys.
        pattern: None for the keys that timers wait for (`watch=`).
        handlers: who is told, in the order of their registration.
    """

    id: str
    location: Location
    pattern: bytes | None
    handlers: tuple[Handler, ...]
    field: bytes | None = None

    @property
    def events(self) -> frozenset[str]:
        """What somebody is to be told of."""
        return frozenset().union(*(handler.on for handler in self.handlers))

    @property
    def with_value(self) -> bool:
        """Whether somebody is to be given values."""
        return any(handler.with_value for handler in self.handlers)

    @property
    def flags(self) -> str:
        """The flags of `notify-keyspace-events` that are needed."""
        return FLAGS + (VALUE_FLAGS if self.with_value else "" if self.field is None else "h")


def watches_of(app: Any) -> list[Watch]:
    """What the handlers of an app watch: each pattern in each Redis once."""
    timers = locate(app)
    found: dict[str, Watch] = {}
    for handler in handlers_of(app):
        location = locate_watched(app, handler.url)
        raw = _raw(handler.pattern)
        field = None if handler.field is None else _raw(handler.field)
        # a newline stands in no pattern that means anything
        id = _id(location, timers, raw if field is None else raw + b"\n" + field)
        known = found[id].handlers if id in found else ()
        if handler in known:
            # its module was loaded again, or what registers it was called again: no reason to run it twice
            continue
        found[id] = Watch(id, location, raw, (*known, handler), field)
        if raw in EVERYTHING and not known:
            logger.warning(
                "expiry: the pattern %r watches every key in %s: each write there costs this worker about "
                "as much as it costs Redis. Name what you mean, such as 'session:*'",
                handler.pattern,
                location.url,
                extra=log_fields("watch_everything"),
            )
    return list(found.values())


def _raw(pattern: str | bytes) -> bytes:
    return pattern if isinstance(pattern, bytes) else pattern.encode(errors="surrogateescape")


def watch_of_keys(app: Any) -> Watch:
    """The watch of those keys that timers wait for (`watch=`)."""
    location = locate_watched(app)
    return Watch(_id(location, locate(app), b""), location, None, ())


def _id(location: Location, timers: Location, pattern: bytes) -> str:
    place = "" if _place(location) == _place(timers) else _place(location)
    return hashlib.sha1(place.encode() + b"\n" + pattern, usedforsecurity=False).hexdigest()[:16]


def _place(location: Location) -> str:
    return f"{location.cluster or location.door()}/{location.database}"

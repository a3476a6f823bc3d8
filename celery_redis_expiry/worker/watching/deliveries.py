"""From what happened to a key to the timers that tell of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import loads

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import prepare
from celery_redis_expiry.store import Delivery
from celery_redis_expiry.timer import Stored, as_datetime, shown
from celery_redis_expiry.watching import FieldEvent, Handler, KeyEvent, signature_with
from celery_redis_expiry.worker.watching.watch import Watch

logger = logging.getLogger(__name__)

#: How many timers one script stores at most, about.
MOST = 100


@dataclass(frozen=True)
class Gone:
    """A key that is gone, or a field of a hash.

    Attributes:
        event: `expired`, `deleted` or `evicted`.
        due: when it was due, ms; None where nobody knew.
        value: the snapshot of its value as the ledger has it, or None.
        missed, certain: see `KeyEvent`.
        field: None for a key.
    """

    key: bytes
    event: str
    due: int | None = None
    value: bytes | None = None
    missed: bool = False
    certain: bool = True
    field: bytes | None = None

    @property
    def name(self) -> bytes:
        """Under which it stands in the ledger."""
        return self.key if self.field is None else name_of(self.key, self.field)


def name_of(key: bytes, field: bytes) -> bytes:
    """Under which a field of a hash stands in the ledger."""
    return b"%d:%b%b" % (len(key), key, field)


def parts_of(name: bytes) -> tuple[bytes, bytes]:
    """Key and field of such a name."""
    length, _, rest = name.partition(b":")
    return rest[: int(length)], rest[int(length) :]


def deliveries(app: Any, watch: Watch, gone: Iterable[Gone]) -> Iterator[Delivery]:
    """What is to be stored for these, in order, in portions."""
    keys: list[bytes] = []
    timers: list[Stored] = []
    for each in gone:
        keys.append(each.name)
        timers += _timers(app, watch, each)
        if len(keys) >= MOST or len(timers) >= MOST:
            yield Delivery(new_token(), keys, timers)
            keys, timers = [], []
    if keys:
        yield Delivery(new_token(), keys, timers)


def _timers(app: Any, watch: Watch, gone: Gone) -> Iterator[Stored]:
    for handler in watch.handlers:
        if gone.event not in handler.on:
            continue
        try:
            yield prepare(signature_with(handler.signature, _told(watch, handler, gone)), app).stored
        except ExpiryError as exc:
            # the others are told all the same
            logger.error(
                "expiry: the task for the key %s (%s) can't be sent: %s",
                shown(str(_readable(gone.key))),
                shown(str(handler.pattern)),
                exc,
                extra=log_fields("watch_unsent", reason=str(exc)),
            )


def _told(watch: Watch, handler: Handler, gone: Gone) -> KeyEvent | FieldEvent:
    snapshot = _snapshot(gone.value) if gone.value and handler.with_value else {}
    event: KeyEvent = {
        "key": _readable(gone.key),
        "pattern": handler.pattern,
        "channel": _readable(f"__keyspace@{watch.location.database}__:".encode() + gone.key),
        "event": gone.event,
        "due": None if gone.due is None else as_datetime(gone.due).isoformat(),
        "missed": gone.missed,
        "certain": gone.certain,
        "value": snapshot.get("value"),
        "value_at": snapshot.get("at"),
    }
    if gone.field is None or handler.field is None:
        return event
    return {**event, "field": _readable(gone.field), "field_pattern": handler.field}


def _snapshot(raw: bytes) -> dict[str, Any]:
    try:
        snapshot = loads(raw)
    except ValueError:
        snapshot = None
    # one that somebody damaged must not keep the others from being told of
    return snapshot if isinstance(snapshot, dict) else {}


def _readable(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw

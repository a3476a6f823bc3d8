"""What a handler's task is given: a plain dict."""

from __future__ import annotations

from typing import Any, TypedDict

from celery.canvas import Signature, _chain, group


class KeyEvent(TypedDict):
    """What happened to a watched key.

    Attributes:
        key: its name; bytes where that is no UTF-8.
        pattern: the pattern that it matched, as registered.
        channel: the channel of Redis that tells of it, as a subscriber's callback would be given it.
        event: `expired`, `deleted` or `evicted`.
        due: when it was due to expire, ISO 8601 in UTC; None where no worker knew.
        missed: whether nobody listened at that moment, so that it was found out later.
        certain: whether Redis itself told of it. False for what is concluded: the key was gone, and its time
            had passed.
        value: a snapshot of the value that it had (`with_value=True`), else None.
        value_at: when that was taken, ISO 8601 in UTC, else None.
    """

    key: str | bytes
    pattern: str | bytes
    channel: str | bytes
    event: str
    due: str | None
    missed: bool
    certain: bool
    value: Any
    value_at: str | None


class FieldEvent(KeyEvent):
    """What happened to a watched field of a hash: the same, and the field.

    Attributes:
        field: its name; bytes where that is no UTF-8.
        field_pattern: the pattern that it matched, as registered.
    """

    field: str | bytes
    field_pattern: str | bytes


def signature_with(signature: Signature, event: KeyEvent | FieldEvent) -> Signature:
    """A signature that gets the event as its first argument, unless it is immutable, as Celery's links do."""
    if isinstance(signature, group):
        # a group's own arguments are none of its members'
        members = [signature_with(each, event) for each in signature.tasks]
        return group(members, app=signature.app, **signature.options)
    if isinstance(signature, _chain):
        clone = signature.clone()
        clone.tasks[0] = signature_with(clone.tasks[0], event)
        return clone
    return signature.clone() if signature.immutable else signature.clone((event,))

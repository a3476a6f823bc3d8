"""From a signature to what is stored, and from what is stored to a message at its due time."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature
from kombu.exceptions import EncodeError, OperationalError

from celery_redis_expiry.eager import sending_tasks
from celery_redis_expiry.errors import ExpiryError, InvalidTimer
from celery_redis_expiry.messages.call import goes_elsewhere, producer_of, record_call
from celery_redis_expiry.messages.canvas import apply_canvas, is_canvas, prepare_canvas
from celery_redis_expiry.messages.group_result import WaitingGroupResult
from celery_redis_expiry.messages.kinds import Kinds
from celery_redis_expiry.messages.occurrence import (
    AWAITED,
    NAME,
    awaited_by,
    occurrence,
    occurrence_of,
    print_of,
    recurring_content,
)
from celery_redis_expiry.messages.prepared import Prepared
from celery_redis_expiry.messages.recording import message, record
from celery_redis_expiry.messages.sent import Sent, timer_of

__all__ = [
    "AWAITED",
    "NAME",
    "Kinds",
    "Prepared",
    "Sent",
    "WaitingGroupResult",
    "apply_canvas",
    "awaited_by",
    "goes_elsewhere",
    "message",
    "occurrence",
    "occurrence_of",
    "prepare",
    "print_of",
    "producer_of",
    "record_call",
    "recurring_content",
    "timer_of",
]

#: Options that would change where or when the message goes, beside the timer's own.
FORBIDDEN = {
    "countdown": "give the delay as seconds=",
    "eta": "give the time as at=",
    "connection": "a connection can't be stored; the message goes to the app's broker",
    "producer": "a producer can't be stored; the message goes to the app's broker",
    "publisher": "a producer can't be stored; the message goes to the app's broker",
}
_FORBIDDEN = frozenset(FORBIDDEN)


def prepare(
    signature: Signature, app: Any, kinds: dict[Any, Kinds] | None = None, *, may_block: bool = True
) -> Prepared:
    """Make a signature ready for the store.

    Arguments:
        kinds: by app, for a caller that has many signatures; what is missing is added.
        may_block: not in an event loop's thread: then what can only block is refused.

    Raises:
        InvalidTimer: it can't be kept for later; says why and what to do.
    """
    options = signature.get("options")
    for option in () if not options or _FORBIDDEN.isdisjoint(options) else _FORBIDDEN & options.keys():
        if options[option] is not None:
            remedy = FORBIDDEN[option]
            raise InvalidTimer(f"the signature carries {option}: a timer has one due time, {remedy}")
    try:
        if is_canvas(signature):
            return prepare_canvas(signature, app)
        known = None if kinds is None else kinds.get(app)
        if known is None:
            known = Kinds(app)
            if kinds is not None:
                kinds[app] = known
        with sending_tasks(app):
            return known.prepare(signature) or record(signature, app, may_block=may_block)
    except (ExpiryError, OperationalError):
        raise
    except EncodeError as exc:
        raise InvalidTimer(f"the arguments of {signature.task} can't be serialized: {exc}") from exc
    except Exception as exc:
        raise InvalidTimer(f"{signature.task} can't be sent as it is: {type(exc).__name__}: {exc}") from exc

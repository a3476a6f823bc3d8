"""A claimed timer on its way to the broker, and what became of it."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    OperationalError,
    SerializerNotInstalled,
)

from celery_redis_expiry.timer import Claimed, Stored

#: AMQP reply codes that trying again won't change: access refused, not found, unroutable, not equivalent, and
#: an unknown type of exchange, for which RabbitMQ closes even the connection.
FOR_GOOD = {403, 404, 312, 406, 503, 540}
#: Errors that tell of the message, not of the way to the broker.
OF_THE_MESSAGE = (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    SerializerNotInstalled,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
#: After how many attempts a message is given up whose error nobody knows: a good quarter of an hour.
ODD_ATTEMPTS = 10


@dataclass
class Parcel:
    """A claimed timer on its way to the broker.

    Attributes:
        stored: its message.
        outcome: `published`; `unsent` (certainly not published, try again); `unknown` (the connection was
            lost before the answer); `failed` (this message was not taken, try again later); `refused` (for
            good); `stalled` (the lease ended before it could be sent: it is no longer ours).
        reason: why it was not published.
        settled: when its outcome was known, on the monotonic clock.
        body, arguments: for `kombu.Producer.publish`, once prepared.
        kind: in place of these, what the sender knows of messages of its template.
    """

    stored: Stored
    claim: Claimed
    outcome: str | None = None
    reason: str = ""
    settled: float = 0.0
    body: Any = field(default=None, repr=False)
    arguments: dict[str, Any] = field(default_factory=dict, repr=False)
    kind: Any = field(default=None, repr=False)

    @property
    def content(self) -> dict[str, Any]:
        """What is stored of it."""
        return self.stored.content

    @property
    def correlation_id(self) -> Any:
        """Of the message, once prepared."""
        return self.arguments.get("correlation_id") if self.kind is None else self.stored.id

    @property
    def is_canvas(self) -> bool:
        # no template is a canvas's
        return self.stored.template is None and self.content.get("kind") == "canvas"

    def settle(self, outcome: str, reason: object = "", at: float | None = None) -> None:
        """Say what became of it.

        Arguments:
            at: when that was known, on the monotonic clock; None for now.
        """
        if outcome == "odd":
            # perhaps not the message's fault: it is refused for good only when it happens again and again
            outcome = "failed" if self.claim.attempts + 1 < ODD_ATTEMPTS else "refused"
        self.outcome, self.reason = outcome, str(reason) or repr(reason)
        self.settled = time.monotonic() if at is None else at

    @property
    def lateness(self) -> float:
        """Seconds from its due time until it was settled: once published, it is in the broker's queue."""
        return max(0.0, self.settled - self.claim.due_local)


def losses(connection: Any) -> tuple[type[BaseException], ...]:
    """The errors that say that the connection is lost.

    kombu 5.7 counts KeyError among those of Redis, for the sake of its consumers. Here it says that a message
    names what does not exist, and no other message may wait for it.
    """
    errors = (OSError, OperationalError, *connection.connection_errors)
    return tuple(error for error in errors if error is not KeyError)


def judge(exc: BaseException, connection: Any) -> tuple[str, str]:
    """What an error of kombu or its transport says: `lost`, `full`, `failed`, `refused` or `odd`, and why.

    `full` is a Redis at its maxmemory: the message is not taken, and neither is any other. `odd` is an error
    that nothing is known of: a lost connection makes kombu 5.7 fail with an AttributeError now and then.

    Arguments:
        connection: the kombu connection; it knows the errors of its transport.
    """
    cause = exc.__cause__ or exc  # kombu wraps what it ran into
    lost = losses(connection)
    if getattr(cause, "reply_code", None) in FOR_GOOD:
        verdict = "refused"
    elif isinstance(exc, lost) or isinstance(cause, lost):
        verdict = "lost"
    elif "maxmemory" in str(cause):
        verdict = "full"
    elif isinstance(cause, connection.channel_errors):
        verdict = "failed"
    else:
        verdict = "refused" if isinstance(cause, OF_THE_MESSAGE) else "odd"
    return verdict, f"{type(cause).__name__}: {cause}"

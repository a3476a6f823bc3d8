"""A claimed timer on its way to the broker, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kombu.exceptions import OperationalError

from celery_redis_expiry.timer import Claimed

#: AMQP reply codes that trying again won't change: access refused, not found, unroutable, not equivalent, and
#: an unknown type of exchange, for which RabbitMQ closes even the connection.
FOR_GOOD = {403, 404, 312, 406, 503, 540}


@dataclass
class Parcel:
    """A claimed timer on its way to the broker.

    Attributes:
        content: its stored message.
        due: ms since the epoch.
        outcome: `published`; `unsent` (certainly not published, try again); `unknown` (the connection was
            lost before the answer); `failed` (this message was not taken, try again later); `refused` (for
            good); `stalled` (the lease ended before it could be sent: it is no longer ours).
        reason: why it was not published.
        body, arguments: for `kombu.Producer.publish`, once prepared.
    """

    content: dict[str, Any]
    due: int
    claim: Claimed
    outcome: str | None = None
    reason: str = ""
    body: Any = field(default=None, repr=False)
    arguments: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_canvas(self) -> bool:
        return self.content.get("kind") == "canvas"

    def settle(self, outcome: str, reason: object = "") -> None:
        self.outcome, self.reason = outcome, str(reason) or repr(reason)


def losses(connection: Any) -> tuple[type[BaseException], ...]:
    """The errors that say that the connection is lost.

    kombu 5.7 counts KeyError among those of Redis, for the sake of its consumers. Here it says that a message
    names what does not exist, and no other message may wait for it.
    """
    errors = (OSError, OperationalError, *connection.connection_errors)
    return tuple(error for error in errors if error is not KeyError)


def judge(exc: BaseException, connection: Any) -> tuple[str, str]:
    """What an error of kombu or its transport says: `lost`, `full`, `failed` or `refused`, and why.

    `full` is a Redis at its maxmemory: the message is not taken, and neither is any other.

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
        verdict = "refused"
    return verdict, f"{type(cause).__name__}: {cause}"

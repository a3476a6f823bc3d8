"""A message of the broker, looked at: whether it can become a timer, and if not, why it stays where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kombu.transport.redis import Channel
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from celery_redis_expiry.content import told
from celery_redis_expiry.errors import InvalidTimer
from celery_redis_expiry.messages import Sent, timer_of
from celery_redis_expiry.timer import Lying, Request, Stored, Timer


@dataclass(frozen=True)
class Found:
    """A message of the broker.

    Attributes:
        verdict: `fit` to become a timer; `plain`, without an ETA; `soon`, due before the least delay;
            `shared`, whose exchange brings it to several queues, or is not known here; `unfit`, which can't
            be kept.
        lying: where.
        sent: what it is; None where it can't be read.
        stored, due: what becomes of one that is fit; due in ms since the epoch.
    """

    verdict: str
    lying: Lying
    sent: Sent | None = field(default=None, repr=False)
    stored: Stored | None = None
    due: int = 0

    @property
    def id(self) -> str:
        """The task id."""
        assert self.stored is not None
        return self.stored.id

    def request(self, *, lying: Lying | None = None, token: str = "") -> Request:
        """Store its timer. Another one with its task id is left alone.

        Arguments:
            lying, token: see `Request`.
        """
        assert self.stored is not None
        when = f"={self.due}"
        return Request(self.stored, when, "raise", None, self.stored.id, lying=lying, token=token)

    def is_of(self, timer: Timer) -> bool:
        """Whether a timer with its task id is its own: a run was killed before it acked the message."""
        assert self.stored is not None
        what = told(self.stored.content)
        return (timer.task, timer.args, timer.kwargs, timer.queue) == (
            *(what.task, what.args, what.kwargs, what.queue),
        )


class Looking:
    """Looks at messages.

    Arguments:
        app: the Celery app.
        leads_to: see `Broker`.
        soonest: what is due before, ms since the epoch, stays where it is.
    """

    def __init__(self, app: Any, leads_to: Callable[[str, str, str], set[str]], soonest: int) -> None:
        self._app = app
        self._leads_to = leads_to
        self._soonest = soonest
        self._led: dict[tuple[str, str, str], bool] = {}
        #: the exchange of each configured queue, before any other is made up
        self._exchanges = {name: queue.exchange for name, queue in app.amqp.queues.items()}

    def at(self, lying: Lying, queue: str) -> Found:
        """What lies in a queue."""
        return self._found(lying, lambda: _opened(loads(bytes_to_str(lying.message)), queue))

    def held(self, lying: Lying) -> Found:
        """What a consumer holds: its message, exchange and routing key."""

        def opened() -> Sent:
            envelope, exchange, routing_key = loads(bytes_to_str(lying.message))
            return _opened(envelope, self._queue_of(exchange, routing_key), exchange, routing_key)

        return self._found(lying, opened)

    def _found(self, lying: Lying, opened: Callable[[], Sent]) -> Found:
        try:
            sent = opened()
            timer = timer_of(sent, self._app)
        except (InvalidTimer, ValueError, TypeError, LookupError, AttributeError):
            return Found("unfit", lying)
        if timer is None:
            return Found("plain", lying, sent)
        stored, due = timer
        verdict = "soon" if due < self._soonest else "fit" if self._leads_back(sent) else "shared"
        return Found(verdict, lying, sent, stored, due)

    def _queue_of(self, exchange: str, routing_key: str) -> str:
        """The queue that a message came from."""
        names = (name for name in self._exchanges if exchange and self._leads(exchange, routing_key, name))
        return next(names, routing_key)

    def _leads_back(self, sent: Sent) -> bool:
        """Whether the message, published once more, comes to its queue, and to no other."""
        if not sent.exchange:
            return sent.routing_key == sent.queue
        return self._leads(sent.exchange, sent.routing_key, sent.queue)

    def _leads(self, exchange: str, routing_key: str, queue: str) -> bool:
        known = self._exchanges.get(queue)
        if known is None or known.name != exchange or known.type not in ("direct", "topic"):
            return False
        path = exchange, routing_key, queue
        if path not in self._led:
            self._led[path] = self._leads_to(exchange, routing_key, known.type) == {queue}
        return self._led[path]


def _opened(
    envelope: dict[str, Any], queue: str, exchange: str | None = None, routing_key: str | None = None
) -> Sent:
    properties, body = envelope["properties"], envelope["body"]
    info = properties["delivery_info"]
    codec = Channel.codecs.get((properties.get("body_encoding") or "").lower())
    if codec is not None:
        body = codec.decode(body)
    return Sent(
        queue,
        str(info["exchange"] if exchange is None else exchange),
        str(info["routing_key"] if routing_key is None else routing_key),
        body if isinstance(body, bytes) else str(body).encode(),
        str(envelope["content-type"]),
        str(envelope["content-encoding"]),
        dict(envelope["headers"]),
        dict(properties),
    )

"""Stored messages to the broker, on a connection of our own, by whatever is safest and fastest there.

RabbitMQ: pipelined, `mandatory`, with publisher confirms counted per batch; users' own connections seldom
ask for confirms, and kombu's wait for each message. Redis: kombu's `Producer.batch` (kombu 5.7). Anything
else, and older kombu: one by one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from kombu.pools import producers

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.messages import apply_canvas, message
from celery_redis_expiry.worker.confirms import Confirms
from celery_redis_expiry.worker.parcel import Parcel

logger = logging.getLogger(__name__)

#: Seconds within which a broker connection must answer.
CONNECT_TIMEOUT = 5.0
#: Seconds after which an idle connection is asked for a sign of life before anything is sent: what fails
#: then is known not to be published.
IDLE = 1.0
#: AMQP reply codes that trying again won't change: access refused, not found, unroutable, not equivalent.
FOR_GOOD = {403, 404, 312, 406}


#: A parcel with the body and the arguments of `kombu.Producer.publish`.
Sendable = tuple[Parcel, Any, dict[str, Any]]


class BrokerUnavailable(ExpiryError):
    """The broker can't be reached now."""


class Publisher:
    """The broker, as the dispatcher sees it. Used by one thread.

    Arguments:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._producer: Any = None
        self._confirms: Confirms | None = None
        self._exchanges: set[str] = set()
        self._last_used = 0.0

    def connect(self) -> None:
        """Make sure that the broker answers.

        Raises:
            BrokerUnavailable: it doesn't.
        """
        try:
            if self._producer is None:
                self._open()
            elif time.monotonic() - self._last_used > IDLE:
                self._ask()
            self._last_used = time.monotonic()
        except Exception as exc:
            self.close()
            raise BrokerUnavailable(str(exc) or repr(exc)) from exc

    def _open(self) -> None:
        # confirms are counted per batch here, not waited for one by one
        connection = self._app.connection_for_write(
            heartbeat=0, connect_timeout=CONNECT_TIMEOUT, transport_options={"confirm_publish": False}
        )
        producer = producers[connection].acquire(block=True, timeout=CONNECT_TIMEOUT)
        self._producer = producer
        producer.auto_declare = False
        producer.connection.ensure_connection(
            max_retries=max(1, len(connection.alt)),
            interval_start=0,
            interval_step=0,
            timeout=CONNECT_TIMEOUT,
        )
        self._exchanges.clear()
        self._renew_channel()

    def _renew_channel(self) -> None:
        connection = self._producer.connection
        self._producer.revive(connection.channel())
        channel = self._producer.channel
        confirming = connection.transport.driver_type == "amqp" and hasattr(channel, "confirm_select")
        self._confirms = Confirms(channel) if confirming else None

    def _ask(self) -> None:
        """A round trip, which fails where the connection is dead."""
        channel = self._producer.channel
        if self._confirms is not None:
            channel.confirm_select()
        elif self._producer.connection.transport.driver_type == "redis":
            channel.client.ping()

    def close(self) -> None:
        """Give the connection up."""
        producer, self._producer, self._confirms = self._producer, None, None
        if producer is not None:
            try:
                producer.connection.collapse()
                producer.release()
            except Exception as exc:
                logger.debug("expiry: closing the broker connection: %r", exc)

    def publish(self, parcels: list[Parcel], deadline: float) -> None:
        """Publish each parcel and set its outcome. Raises nothing that concerns the broker.

        Arguments:
            deadline: the lease's end, on the monotonic clock: what is not sent by then is no longer ours.
        """
        messages = [parcel for parcel in parcels if parcel.content.get("kind") == "message"]
        prepared = self._prepare(messages)
        if self._confirms is not None:
            self._send_confirmed(prepared, deadline)
        else:
            for group in _by_destination(prepared):
                self._send_batch(group, deadline)
        for parcel in parcels:
            if parcel.outcome is None:
                self._apply(parcel, deadline)
        self._last_used = time.monotonic()
        if any(parcel.outcome in ("unknown", "unsent") for parcel in parcels):
            self.close()

    def _prepare(self, parcels: list[Parcel]) -> list[Sendable]:
        """Decode, and declare what must be there, so that nothing but sending is left to fail."""
        prepared = []
        for parcel in parcels:
            try:
                body, arguments = message(parcel.content, parcel.due, self._app)
            except Exception as exc:
                parcel.settle("refused", f"the stored message can't be published: {exc!r}")
                continue
            with self._outcome_of([parcel], connection_lost="unsent"):
                for entity in arguments.pop("declare"):
                    self._producer.maybe_declare(entity)
                    self._exchanges.add(getattr(getattr(entity, "exchange", entity), "name", ""))
                self._check_exchange(arguments.get("exchange") or "")
                prepared.append((parcel, body, arguments))
        return prepared

    def _check_exchange(self, exchange: str) -> None:
        """RabbitMQ closes the channel for an exchange that isn't there, and the batch with it: ask before."""
        if exchange and self._confirms is not None and exchange not in self._exchanges:
            self._producer.channel.exchange_declare(exchange, "direct", passive=True)
            self._exchanges.add(exchange)

    def _send_batch(self, group: list[Sendable], deadline: float) -> None:
        """All to one queue: where the broker refuses one for the queue's sake, it refuses all."""
        producer = self._producer
        batching = hasattr(producer, "batch") and producer.supports_batch_publish
        sent: list[Parcel] = []
        with self._outcome_of(sent, connection_lost="unknown"):
            with producer.batch(max_size=2 * len(group) + 1) if batching else nullcontext():
                for parcel, body, arguments in group:
                    if time.monotonic() > deadline:
                        parcel.settle("stalled")
                        continue
                    if not batching:
                        sent.clear()
                    sent.append(parcel)
                    producer.publish(body, **arguments)
                    if not batching:
                        parcel.settle("published")
            for parcel in sent:
                parcel.settle("published")
        for parcel, _, _ in group:
            if parcel.outcome is None:
                parcel.settle("unsent", "the connection was lost before")

    def _send_confirmed(self, prepared: list[Sendable], deadline: float) -> None:
        while prepared:
            batch, later = _distinct(prepared)
            sent: list[Parcel] = []
            with self._outcome_of(sent, connection_lost="unknown"):
                assert self._confirms is not None
                self._confirms.begin()
                for parcel, body, arguments in batch:
                    if time.monotonic() > deadline:
                        parcel.settle("stalled")
                        continue
                    sent.append(parcel)
                    self._confirms.sending(parcel, arguments.get("correlation_id"))
                    self._producer.publish(body, **arguments, mandatory=True, timeout=CONNECT_TIMEOUT)
                self._confirms.wait(self._producer.connection)
            for parcel, _, _ in batch:
                if parcel.outcome is None:
                    parcel.settle("unsent", "the connection was lost before")
            if self._confirms is None or any(
                parcel.outcome in ("unknown", "unsent") for parcel, _, _ in batch
            ):
                for parcel, _, _ in later:
                    parcel.settle("unsent", "the connection was lost before")
                return
            prepared = later

    def _apply(self, parcel: Parcel, deadline: float) -> None:
        if parcel.content.get("kind") != "canvas":
            parcel.settle("refused", f"a stored message of the unknown kind {parcel.content.get('kind')!r}")
        elif time.monotonic() > deadline:
            parcel.settle("stalled")
        else:
            with self._outcome_of([parcel], connection_lost="unknown"):
                apply_canvas(parcel.content, self._app)
                parcel.settle("published")

    @contextmanager
    def _outcome_of(self, parcels: list[Parcel], connection_lost: str) -> Iterator[None]:
        """Turn what the broker raises into the outcome of those parcels that have none yet."""
        try:
            yield
        except Exception as exc:
            # kombu wraps what a batch ran into
            cause = exc.__cause__ or exc
            connection = (
                self._producer.connection if self._producer is not None else self._app.connection_for_write()
            )
            code = getattr(cause, "reply_code", None)
            if code in FOR_GOOD:
                outcome = "refused"
            elif isinstance(cause, connection.connection_errors) or isinstance(
                exc, connection.connection_errors
            ):
                outcome = connection_lost
            elif isinstance(cause, connection.channel_errors):
                outcome = "failed"
            elif isinstance(cause, (OSError, TimeoutError)) or type(exc).__name__ == "OperationalError":
                outcome = connection_lost
            else:
                outcome = "refused"
            for parcel in parcels:
                if parcel.outcome is None:
                    parcel.settle(outcome, f"{type(cause).__name__}: {cause}")
            if self._confirms is not None and outcome != connection_lost:
                self._revive_channel()

    def _revive_channel(self) -> None:
        """A channel error of AMQP closes the channel, not the connection."""
        try:
            self._renew_channel()
        except Exception as exc:
            logger.debug("expiry: no new channel: %r", exc)
            self.close()


def _by_destination(
    prepared: list[Sendable],
) -> list[list[Sendable]]:
    groups: dict[Any, list[Sendable]] = {}
    for each in prepared:
        groups.setdefault((each[2].get("exchange"), each[2].get("routing_key")), []).append(each)
    return list(groups.values())


def _distinct(
    prepared: list[Sendable],
) -> tuple[list[Sendable], list[Sendable]]:
    """Split off those whose correlation id stands twice: a return tells a message by nothing else."""
    seen: set[Any] = set()
    batch: list[Sendable] = []
    later: list[Sendable] = []
    for each in prepared:
        correlation_id = each[2].get("correlation_id")
        (later if correlation_id in seen else batch).append(each)
        seen.add(correlation_id)
    return batch, later

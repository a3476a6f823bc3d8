"""The broker, as the dispatcher sees it: on a connection of our own."""

from __future__ import annotations

import logging
import time
from typing import Any

from kombu.pools import producers

from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.messages import apply_canvas, message
from celery_redis_expiry.worker.publishing.confirms import ConfirmedBatches
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import Parcel, judge
from celery_redis_expiry.worker.publishing.senders import OneByOne, RedisBatches

logger = logging.getLogger(__name__)

#: Seconds within which a broker connection must answer.
CONNECT_TIMEOUT = 5.0
#: Seconds after which an idle connection is asked for a sign of life before anything is sent: what fails
#: then is known not to be published.
IDLE = 1.0


class BrokerUnavailable(ExpiryError):
    """The broker can't be reached now."""


class Publisher:
    """Publishes parcels. Used by one thread.

    Arguments:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._producer: Any = None
        self._sender: OneByOne | None = None
        self._last_used = 0.0

    def connect(self) -> None:
        """Make sure that the broker answers.

        Raises:
            BrokerUnavailable: it doesn't.
        """
        try:
            if self._sender is None:
                self._open()
            elif self._sender.blocked or time.monotonic() - self._last_used > IDLE:
                self._sender.ask()
            self._last_used = time.monotonic()
        except Exception as exc:
            if self._sender is not None and self._sender.blocked:
                # a connection that is given up hands what lies in its socket to the broker later: twice, then
                raise BrokerUnavailable(str(exc)) from exc
            self.close()
            raise BrokerUnavailable(str(exc) or repr(exc)) from exc

    def _open(self) -> None:
        # confirms are counted per batch here, not waited for one by one
        connection = self._app.connection_for_write(
            heartbeat=0, connect_timeout=CONNECT_TIMEOUT, transport_options={"confirm_publish": False}
        )
        self._producer = producers[connection].acquire(block=True, timeout=CONNECT_TIMEOUT)
        self._producer.auto_declare = False
        connection = self._producer.connection
        connection.ensure_connection(
            max_retries=max(1, len(connection.alt)),
            interval_start=0,
            interval_step=0,
            timeout=CONNECT_TIMEOUT,
        )
        self._producer.revive(connection.channel())
        driver = connection.transport.driver_type
        if driver == "amqp" and hasattr(self._producer.channel, "confirm_select"):
            self._sender = ConfirmedBatches(self._producer)
        else:
            self._sender = RedisBatches(self._producer) if driver == "redis" else OneByOne(self._producer)

    def close(self) -> None:
        """Give the connection up."""
        producer, self._producer, self._sender = self._producer, None, None
        if producer is not None:
            try:
                producer.connection.collapse()
                producer.release()
            except Exception as exc:
                logger.debug("expiry: closing the broker connection: %r", exc)

    def publish(self, parcels: list[Parcel], lease: Lease) -> None:
        """Publish each parcel and settle it. Raises nothing that concerns the broker."""
        sender = self._sender
        assert sender is not None, "connect() comes before"
        messages = [parcel for parcel in parcels if parcel.content.get("kind") == "message"]
        sender.send([parcel for parcel in messages if self._prepare(parcel, sender)], lease)
        for parcel in parcels:
            if parcel.outcome is None:
                self._apply(parcel, sender, lease)
        self._last_used = time.monotonic()
        if sender.lost:
            self.close()

    def _prepare(self, parcel: Parcel, sender: OneByOne) -> bool:
        if sender.lost:
            parcel.settle("unsent", "the connection was lost before")
            return False
        try:
            parcel.body, parcel.arguments = message(parcel.content, parcel.due, self._app)
        except Exception as exc:
            parcel.settle("refused", f"the stored message can't be published: {exc!r}")
            return False
        try:
            sender.declare(parcel)
        except Exception as exc:
            verdict, reason = judge(exc, sender.connection)
            parcel.settle("unsent" if verdict == "lost" else verdict, reason)
            sender.lost = verdict == "lost"
            if not sender.lost:
                try:
                    sender.renew()
                except Exception:
                    sender.lost = True
            return False
        return True

    def _apply(self, parcel: Parcel, sender: OneByOne, lease: Lease) -> None:
        if parcel.content.get("kind") != "canvas":
            parcel.settle("refused", f"a stored message of the unknown kind {parcel.content.get('kind')!r}")
        elif lease.over:
            parcel.settle("stalled")
        else:
            try:
                apply_canvas(parcel.content, self._app)
                parcel.settle("published")
            except Exception as exc:
                verdict, reason = judge(exc, sender.connection)
                parcel.settle("unknown" if verdict == "lost" else verdict, reason)

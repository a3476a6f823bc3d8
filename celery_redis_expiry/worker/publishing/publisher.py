"""The broker, as the dispatcher sees it: on a connection of our own."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from celery_redis_expiry.connections import broker_location
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import apply_canvas, message
from celery_redis_expiry.store import Store
from celery_redis_expiry.worker.publishing.batches import RedisBatches
from celery_redis_expiry.worker.publishing.confirms import Blocked, ConfirmedBatches
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import Parcel, judge
from celery_redis_expiry.worker.publishing.pushed import NotPlain
from celery_redis_expiry.worker.publishing.senders import OneByOne

logger = logging.getLogger(__name__)

#: Seconds within which a broker connection must answer.
CONNECT_TIMEOUT = 5.0
#: Seconds within which a Redis broker must answer, unless broker_transport_options say otherwise.
ANSWER_TIMEOUT = 10.0
#: Seconds after which an idle connection is asked for a sign of life before anything is sent: what fails
#: then is known not to be published.
IDLE = 1.0


class BrokerUnavailable(ExpiryError):
    """The broker can't be reached now."""


class Publisher:
    """Publishes parcels.

    `connect`, `publish` and `close` are for the dispatcher's thread, `apply` is for the applier's; it touches
    none of their state.

    Arguments:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._sender: OneByOne | None = None
        self._last_used = 0.0
        self._warned = False

    def connect(self) -> None:
        """Make sure that the broker answers.

        Raises:
            BrokerUnavailable: it doesn't.
        """
        try:
            if self._sender is not None and not self._answers(self._sender):
                self.close()
            if self._sender is None:
                self._open()
                self._last_used = time.monotonic()
        except BrokerUnavailable:
            raise
        except Exception as exc:
            self.close()
            raise BrokerUnavailable(str(exc) or repr(exc)) from exc

    def _answers(self, sender: OneByOne) -> bool:
        """Whether the connection is alive; one that was idle may have been closed by anybody on its way."""
        if not sender.blocked and time.monotonic() - self._last_used < IDLE:
            return True
        try:
            sender.ask()
        except Blocked as exc:
            # a connection that is given up hands what lies in its socket to the broker later: twice, then
            raise BrokerUnavailable(str(exc)) from exc
        except Exception as exc:
            logger.debug("expiry: the broker connection had died: %r", exc)
            sender.lost = True
            return False
        self._last_used = time.monotonic()
        return True

    def _open(self) -> None:
        # of our own, not from kombu's pools: confirms are counted per batch here and not waited for one by
        # one, and a connection that is given up must leave no place in a pool occupied
        options = {"confirm_publish": False}
        connection = self._app.connection_for_write(
            heartbeat=0, connect_timeout=CONNECT_TIMEOUT, transport_options=options
        )
        if connection.transport.driver_type == "redis":
            # kombu waits for ever by default: on a half-open connection the quarter of an hour that TCP does
            patience = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), ANSWER_TIMEOUT)
            connection.transport_options = {**patience, **(connection.transport_options or {})}
        try:
            connection.ensure_connection(
                max_retries=max(1, len(connection.alt)),
                interval_start=0,
                interval_step=0,
                timeout=CONNECT_TIMEOUT,
            )
            producer = self._app.amqp.Producer(connection.channel(), auto_declare=False)
            driver = connection.transport.driver_type
            if driver == "amqp" and hasattr(producer.channel, "confirm_select"):
                self._sender = ConfirmedBatches(connection, producer)
            elif driver == "redis":
                prepare = partial(message, due=0, app=self._app)
                self._sender = RedisBatches(connection, producer, prepare)
                self._warn_of_unbatched(connection)
            else:
                self._sender = OneByOne(connection, producer)
        except BaseException:
            connection.release()
            raise

    def is_apart(self, store: Store) -> bool:
        """Whether the broker is certainly not the Redis that holds the timers.

        One server loses message and ack together: a crash or a failover takes both back.
        """
        try:
            broker = broker_location(self._app)
            if broker is None or store.location.cluster:
                return True
            # by name too: during a failover the two connections may see two servers
            if store.location.door() == broker.door() or self._sender is None:
                return False
            return self._sender.run_id() != store.run_id()
        except Exception as exc:
            logger.debug("expiry: whether the broker is the timers' Redis can't be told: %r", exc)
            return False

    @property
    def channel(self) -> Any:
        """kombu's channel to the broker; None while there is none."""
        return None if self._sender is None else self._sender.producer.channel

    def run_id(self) -> str:
        """Which Redis server the broker is; "" where it is something else. Raises what kombu does."""
        return "" if self._sender is None else self._sender.run_id()

    def pushed(self, content: dict[str, Any]) -> tuple[str, str]:
        """The list and the value that kombu would push for a stored message; what it needs is declared.

        Raises:
            BrokerUnavailable: the broker can't be asked now.
            NotPlain: the message is not one that kombu pushes onto one list.
        """
        sender = self._sender
        if sender is None:
            raise BrokerUnavailable("there is no connection")
        if not isinstance(sender, RedisBatches):
            raise NotPlain("the broker is no Redis")
        try:
            return sender.pushed(content)
        except NotPlain:
            raise
        except Exception as exc:
            verdict, reason = judge(exc, sender.connection)
            if verdict in ("lost", "full", "odd"):
                raise BrokerUnavailable(reason) from exc
            raise NotPlain(reason) from exc

    def _warn_of_unbatched(self, connection: Any) -> None:
        if not self._warned and (connection.transport_options or {}).get("retry_on_timeout"):
            self._warned = True
            logger.warning(
                "expiry: retry_on_timeout in broker_transport_options makes kombu publish one by one, and "
                "redis-py send a message again whose answer was late: it comes twice. Remedy: leave it out",
                extra=log_fields("unbatched"),
            )

    def close(self) -> None:
        """Give the connection up."""
        sender, self._sender = self._sender, None
        if sender is not None:
            try:
                sender.close()
            except Exception as exc:
                logger.debug("expiry: closing the broker connection: %r", exc)

    def publish(self, parcels: list[Parcel], lease: Lease) -> None:
        """Publish recorded messages and settle each. Raises nothing that concerns the broker."""
        sender = self._sender
        if sender is None:
            # lost with what was published before in the same pass
            for parcel in parcels:
                parcel.settle("unsent", "the connection was lost before")
            return
        sender.send([parcel for parcel in parcels if self._prepare(parcel, sender)], lease)
        self._last_used = time.monotonic()
        if sender.lost:
            self.close()

    def _prepare(self, parcel: Parcel, sender: OneByOne) -> bool:
        if sender.lost:
            parcel.settle("unsent", "the connection was lost before")
            return False
        if sender.recognize(parcel):
            return True
        try:
            parcel.body, parcel.arguments = message(parcel.content, parcel.claim.due, self._app)
        except Exception as exc:
            parcel.settle("refused", f"the stored message can't be published: {exc!r}")
            return False
        try:
            sender.declare(parcel)
            sender.learn(parcel)
        except Exception as exc:
            verdict, reason = judge(exc, sender.connection)
            parcel.settle("unsent" if verdict in ("lost", "full") else verdict, reason)
            sender.lost = verdict == "lost"
            if not sender.lost:
                try:
                    sender.renew()
                except Exception:
                    sender.lost = True
            return False
        self._last_used = time.monotonic()
        return True

    def apply(self, parcel: Parcel, lease: Lease) -> None:
        """Apply a canvas, by the app's own producers, and settle it."""
        if not lease.holds(parcel.claim):
            parcel.settle("stalled")
            return
        try:
            apply_canvas(parcel.content, self._app)
            parcel.settle("published")
        except Exception as exc:
            verdict, reason = judge(exc, self._app.connection_for_write())
            # parts may be published; they are again, with the same task ids
            parcel.settle("failed" if verdict in ("lost", "full") else verdict, reason)

"""How messages are sent to any broker: one by one."""

from __future__ import annotations

import logging
from typing import Any

from celery_redis_expiry.timer import Templated, shown
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import OF_THE_MESSAGE, Parcel, judge, losses

logger = logging.getLogger(__name__)

#: The outcome of what was being sent when the broker gave a verdict; other verdicts are outcomes themselves.
OUTCOMES = {"lost": "unknown", "full": "unsent"}
#: How many kinds of messages a sender knows.
KINDS = 2000


class OneByOne:
    """Any transport: published when kombu's `publish` returns.

    Arguments:
        connection: a kombu connection of our own.
        producer: a kombu producer on it.

    Attributes:
        lost: whether the connection was found dead; the publisher then opens another.
        blocked: whether the broker says that it takes nothing now; the connection is kept.
    """

    def __init__(self, connection: Any, producer: Any) -> None:
        self.connection = connection
        self.producer = producer
        self.lost = False
        self.blocked = False
        self._kinds: dict[bytes, Any] = {}

    def recognize(self, parcel: Parcel) -> bool:
        """Whether messages like this one are known, and it needs no preparation."""
        if isinstance(parcel.stored, Templated):
            parcel.kind = self._kinds.get(parcel.stored.template.text)
        return parcel.kind is not None

    def learn(self, parcel: Parcel) -> None:
        """Look at a prepared message, so that others of its template need no preparation."""
        stored = parcel.stored
        if not isinstance(stored, Templated) or stored.template.text in self._kinds:
            return
        template, content = stored.template, stored.content
        if "expires" in content or "expiration" in content["arguments"]:
            # another time for each, and another time to live
            return
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        try:
            self._kinds[template.text] = self.study(parcel, stored)
        except Exception as exc:
            # kombu then says what is wrong with it, or sends it
            logger.debug(
                "expiry: messages like that of %s are prepared one by one: %r", shown(parcel.claim.label), exc
            )
            self._kinds[template.text] = None

    def study(self, parcel: Parcel, stored: Templated) -> Any:
        """What is to be known of messages like this one, which is prepared; None where each must be."""
        return None

    def ask(self) -> None:
        """A round trip, which fails where the connection is dead. Not every transport has one."""

    def run_id(self) -> str:
        """Which Redis server the broker is; "" where it is something else."""
        return ""

    def declare(self, parcel: Parcel) -> None:
        """Declare what the message needs, so that nothing but sending is left to fail."""
        for entity in parcel.arguments.pop("declare"):
            self.producer.maybe_declare(entity)

    def renew(self) -> None:
        """After an error that closes an AMQP channel, but not the connection."""

    def close(self) -> None:
        """Give the connection up."""
        self.connection.release()

    def send(self, parcels: list[Parcel], lease: Lease) -> None:
        """Send prepared parcels and settle each; what is not sent before the lease is over is `stalled`."""
        for parcel in parcels:
            lease.keep_up()
            if self.lost:
                parcel.settle("unsent", "the connection was lost before")
            elif not lease.holds(parcel.claim):
                parcel.settle("stalled")
            else:
                try:
                    if self.publish(parcel):
                        parcel.settle("published")
                except Exception as exc:
                    verdict, reason = judge(exc, self.connection)
                    self.lost = verdict == "lost"
                    parcel.settle(OUTCOMES.get(verdict, verdict), reason)

    def publish(self, parcel: Parcel, **arguments: Any) -> bool:
        """Hand one message to kombu. What is wrong with it alone settles it, and concerns no other."""
        try:
            self.producer.publish(parcel.body, **{**parcel.arguments, **arguments})
        except (*losses(self.connection), *self.connection.channel_errors):
            raise
        except Exception as exc:
            parcel.settle(
                "refused" if isinstance(exc, OF_THE_MESSAGE) else "odd", f"it can't be sent: {exc!r}"
            )
            return False
        return True

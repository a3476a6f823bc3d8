"""Publisher confirms of RabbitMQ, counted per batch."""

from __future__ import annotations

import time
from typing import Any

from celery_redis_expiry.worker.parcel import Parcel

#: Seconds for the confirms of a batch.
CONFIRM_TIMEOUT = 20.0


class Confirms:
    """The publisher confirms of one channel: which parcel has which delivery tag."""

    def __init__(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._tag = 0
        self._unconfirmed: dict[int, Parcel] = {}
        self._by_correlation: dict[Any, Parcel] = {}

    def begin(self) -> None:
        self._unconfirmed.clear()
        self._by_correlation.clear()

    def sending(self, parcel: Parcel, correlation_id: Any) -> None:
        """Tags are counted by both sides, from 1, for each message of the channel."""
        self._tag += 1
        self._unconfirmed[self._tag] = parcel
        self._by_correlation[correlation_id] = parcel

    def wait(self, connection: Any) -> None:
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        while self._unconfirmed:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError(f"no confirm within {CONFIRM_TIMEOUT:.0f} s")
            connection.drain_events(timeout=remaining)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        # a returned message is acked as well, after its return
        for parcel in self._confirmed(tag, multiple):
            if parcel.outcome is None:
                parcel.settle("published")

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for parcel in self._confirmed(tag, multiple):
            parcel.settle("failed", "the broker nacked it")

    def _on_return(self, exc: Exception, exchange: str, routing_key: str, returned: Any) -> None:
        parcel = self._by_correlation.get(returned.properties.get("correlation_id"))
        if parcel is not None:
            parcel.settle("refused", f"unroutable: no queue for {routing_key!r} at exchange {exchange!r}")

    def _confirmed(self, tag: int, multiple: bool) -> list[Parcel]:
        tags = [each for each in self._unconfirmed if each <= tag] if multiple else [tag]
        found = (self._unconfirmed.pop(each, None) for each in tags)
        return [parcel for parcel in found if parcel is not None]

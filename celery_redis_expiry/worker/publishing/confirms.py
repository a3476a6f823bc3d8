"""RabbitMQ: pipelined, `mandatory`, with publisher confirms counted per batch.

Users' own connections seldom ask for confirms, and kombu's wait for each message.
"""

from __future__ import annotations

import contextlib
import socket
import time
from itertools import takewhile
from typing import Any, cast

import amqp

from celery_redis_expiry.timer import Templated
from celery_redis_expiry.worker.publishing.frames import GATHERED, Frames, Mould, mould
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import Parcel, judge
from celery_redis_expiry.worker.publishing.senders import OneByOne

#: Milliseconds for which the kernel lets sent bytes go unacknowledged. py-amqp's own second is the death of
#: a connection that RabbitMQ does not read for a while; none at all would hide a dead host for 15 minutes.
USER_TIMEOUT = 30_000

#: Seconds, ten years; RabbitMQ closes the channel for more, which makes the outcome of the messages beside it
#: unknown. The `expires` header says the same to the task's worker.
LONGEST_EXPIRATION = 10 * 365 * 86400


class Blocked(Exception):
    """The connection is alive, but the broker takes nothing now."""


class ConfirmedBatches(OneByOne):
    """A message counts as published when RabbitMQ has confirmed it.

    After an error that closed the channel the next messages are sent one at a time, so that the one that
    causes it is found alone: RabbitMQ doesn't say which it was.
    """

    def __init__(self, connection: Any, producer: Any) -> None:
        super().__init__(connection, producer)
        # RabbitMQ tells that it blocks publishers at the first message, and takes that one
        self._careful = 1
        self._tag = 0
        self._unconfirmed: dict[int, Parcel] = {}
        self._by_correlation: dict[Any, Parcel] = {}
        self._listen()

    def _listen(self) -> None:
        channel = self.producer.channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._tag = 0
        self._unconfirmed.clear()
        self._raw = raw = self.connection.connection
        raw.on_blocked, raw.on_unblocked = self._on_blocked, self._on_unblocked
        self._set_user_timeout(USER_TIMEOUT)
        self._frames = Frames(raw, channel)

    def study(self, parcel: Parcel, stored: Templated) -> Mould | None:
        # another client of the same protocol writes its own frames
        if not isinstance(self._raw, amqp.Connection):
            return None
        return mould(self.producer, stored, parcel.arguments)

    def ask(self) -> None:
        if self.blocked:
            with contextlib.suppress(TimeoutError):
                self.connection.drain_events(timeout=0.1)
        if self.blocked:
            raise Blocked("RabbitMQ blocks publishers: see its memory and disk alarms")
        self.producer.channel.confirm_select()
        self._careful = max(1, self._careful)

    def close(self) -> None:
        if self.lost or self.blocked:
            # a dead or blocked connection does not answer the farewell that a proper close waits for
            self._raw.collect()
        super().close()

    def renew(self) -> None:
        self.producer.revive(self.connection.channel())
        self._listen()

    def declare(self, parcel: Parcel) -> None:
        super().declare(parcel)
        if not 0 <= (parcel.arguments.get("expiration") or 0) <= LONGEST_EXPIRATION:
            del parcel.arguments["expiration"]
        exchange = parcel.arguments.get("exchange")
        if exchange:
            # RabbitMQ closes the channel for an exchange that isn't there, and the whole batch with it
            self.producer.channel.exchange_declare(exchange, "direct", passive=True)

    def send(self, parcels: list[Parcel], lease: Lease) -> None:
        while parcels:
            if self._careful:
                batch, parcels = parcels[:1], parcels[1:]
                self._careful -= 1
            else:
                batch, parcels = _distinct(parcels)
            self._send_batch(batch, lease)
            if self.lost:
                for parcel in parcels:
                    parcel.settle("unsent", "the connection was lost before")
                return

    def _send_batch(self, batch: list[Parcel], lease: Lease) -> None:
        self._by_correlation.clear()
        gathered: list[Parcel] = []
        begun: list[Parcel] = []
        try:
            for parcel in batch:
                lease.keep_up()
                if not lease.holds(parcel.claim):
                    parcel.settle("stalled")
                    continue
                if self.blocked:
                    parcel.settle("unsent", "RabbitMQ blocks publishers: see its memory and disk alarms")
                    continue
                if self._frames.size >= GATHERED or parcel.kind is None:
                    self._flush(gathered, begun)
                if parcel.kind is None:
                    begun.append(parcel)
                    sent = self.publish(parcel, mandatory=True)
                else:
                    sent = self._gather(parcel, gathered)
                if sent:
                    # both sides count the messages of a channel, from 1
                    self._tag += 1
                    self._unconfirmed[self._tag] = parcel
                    self._by_correlation[parcel.correlation_id] = parcel
            self._flush(gathered, begun)
            self._wait(lease)
        except Exception as exc:
            verdict, reason = judge(exc, self.connection)
            self.lost = verdict == "lost"
            if not self.lost:
                self._careful = len(batch) if len(batch) > 1 else 0
                verdict = "unknown" if len(batch) > 1 else verdict
            for parcel in begun:
                if parcel.outcome is None:
                    parcel.settle("unknown" if self.lost else verdict, reason)
            for parcel in batch:
                if parcel.outcome is None:
                    parcel.settle("unsent", reason)
            if not self.lost:
                self._renew_or_lose()

    def _gather(self, parcel: Parcel, gathered: list[Parcel]) -> bool:
        """Gather a message of a known kind. What is wrong with it alone settles it."""
        try:
            self._frames.add(parcel.kind, cast(Templated, parcel.stored))
        except Exception as exc:
            parcel.settle("refused", f"it can't be sent: {exc!r}")
            return False
        gathered.append(parcel)
        return True

    def _flush(self, gathered: list[Parcel], begun: list[Parcel]) -> None:
        """Send what is gathered, and hear what RabbitMQ has to say meanwhile: that it blocks, for one."""
        if gathered:
            begun += gathered
            gathered.clear()
            self._frames.flush()
            try:
                while True:
                    self.connection.drain_events(timeout=0)
            except TimeoutError as exc:
                if exc.errno is not None:
                    raise

    def _renew_or_lose(self) -> None:
        try:
            self.renew()
        except Exception:
            self.lost = True

    def _wait(self, lease: Lease) -> None:
        """Until every confirm is there.

        A broker that blocks publishers for want of memory has the messages in its socket: giving the
        connection up would not take them back, and publishing them on another would double them. So the
        lease is prolonged while the connection lives; its death is seen by TCP keepalive, which py-amqp sets.
        """
        while self._unconfirmed:
            lease.keep_up()
            try:
                self.connection.drain_events(timeout=lease.seconds / 3)
            except TimeoutError as exc:
                if exc.errno is not None or not lease.prolong():
                    raise

    def _on_blocked(self, reason: object) -> None:
        self.blocked = True
        # what it does not read now is no sign of its death
        self._set_user_timeout(0)

    def _on_unblocked(self) -> None:
        self.blocked = False
        self._set_user_timeout(USER_TIMEOUT)

    def _set_user_timeout(self, milliseconds: int) -> None:
        # Linux only, and in whatever py-amqp calls its socket
        with contextlib.suppress(AttributeError, OSError):
            sock = self._raw.transport.sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        now = time.monotonic()
        for parcel in self._confirmed(tag, multiple):
            # a returned message is acked as well, after its return
            if parcel.outcome is None:
                parcel.settle("published", at=now)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for parcel in self._confirmed(tag, multiple):
            parcel.settle("failed", "the broker nacked it")

    def _on_return(self, exc: Exception, exchange: str, routing_key: str, returned: Any) -> None:
        parcel = self._by_correlation.get(returned.properties.get("correlation_id"))
        if parcel is not None:
            parcel.settle("refused", f"unroutable: no queue for {routing_key!r} at exchange {exchange!r}")

    def _confirmed(self, tag: int, multiple: bool) -> list[Parcel]:
        tags = list(takewhile(tag.__ge__, self._unconfirmed)) if multiple else [tag]
        found = (self._unconfirmed.pop(each, None) for each in tags)
        return [parcel for parcel in found if parcel is not None]


def _distinct(parcels: list[Parcel]) -> tuple[list[Parcel], list[Parcel]]:
    """Split off those whose correlation id stands twice: a return tells a message by nothing else."""
    seen: set[Any] = set()
    batch: list[Parcel] = []
    later: list[Parcel] = []
    for parcel in parcels:
        correlation_id = parcel.correlation_id
        (later if correlation_id in seen else batch).append(parcel)
        seen.add(correlation_id)
    return batch, later

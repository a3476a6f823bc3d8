"""How messages are sent: one by one, or a batch at a time with an answer for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu.utils.uuid import uuid

from celery_redis_expiry.worker.publishing.envelopes import Envelope, envelope
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import OF_THE_MESSAGE, Parcel, judge, losses

#: The outcome of what was being sent when the broker gave a verdict; other verdicts are outcomes themselves.
OUTCOMES = {"lost": "unknown", "full": "unsent"}
#: How many kinds of messages a sender knows.
KINDS = 2000
#: How many messages of a kind go into one LPUSH: Redis does nothing else meanwhile.
PUSHED = 100


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
        if parcel.template is not None:
            parcel.kind = self._kinds.get(parcel.template.text)
        return parcel.kind is not None

    def learn(self, parcel: Parcel) -> None:
        """Look at a prepared message, so that others of its template need no preparation."""
        template = parcel.template
        # a number in `expires` counts from the due time of each
        if template is None or template.text in self._kinds or "expires" in parcel.content:
            return
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        self._kinds[template.text] = self.study(parcel)

    def study(self, parcel: Parcel) -> Any:
        """What is to be known of messages like this one; None where each must be prepared."""
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


class RedisBatches(OneByOne):
    """Redis: kombu's `Producer.batch` (kombu 5.7), and each message settled by Redis's answer to it.

    kombu raises the first error of a batch, though Redis took the others (a server that gets full in the
    middle of it). Publishing those again would double them; so the answers are kept, and nothing is raised.
    """

    def ask(self) -> None:
        self.producer.channel.client.ping()

    def run_id(self) -> str:
        return str(self.producer.channel.client.info("server")["run_id"])

    def study(self, parcel: Parcel) -> Envelope | None:
        return envelope(self.producer, parcel.content, parcel.arguments) if self._batches else None

    @property
    def _batches(self) -> bool:
        return hasattr(self.producer, "batch") and bool(self.producer.supports_batch_publish)

    def send(self, parcels: list[Parcel], lease: Lease) -> None:
        known = [parcel for parcel in parcels if parcel.kind is not None]
        others = [parcel for parcel in parcels if parcel.kind is None]
        if known:
            self._push(known, lease)
        if others and self._batches and not self.lost:
            self._publish_batch(others, lease)
        elif others:
            super().send(others, lease)

    def _push(self, parcels: list[Parcel], lease: Lease) -> None:
        """Send messages of known kinds."""
        serial = uuid()
        pushes: list[tuple[Any, list[str], list[Parcel]]] = []
        for number, parcel in enumerate(parcels):
            try:
                value = parcel.kind.fill(parcel.content, f"{serial}-{number}")
            except Exception as exc:
                parcel.settle("refused", f"it can't be sent: {exc!r}")
                continue
            if not pushes or pushes[-1][0] != parcel.kind.key or len(pushes[-1][1]) >= PUSHED:
                pushes.append((parcel.kind.key, [], []))
            pushes[-1][1].append(value)
            pushes[-1][2].append(parcel)
        left = [parcel for parcel in parcels if parcel.outcome is None]
        if not all(lease.holds(parcel.claim) for parcel in left):
            for parcel in left:
                # what is ours of it is claimed anew
                parcel.settle("unsent" if lease.holds(parcel.claim) else "stalled")
            return
        try:
            with self.producer.channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                for key, values, _ in pushes:
                    # the key has its prefix
                    pipe.pipeline_execute_command("LPUSH", key, *values)
                answers = pipe.execute(raise_on_error=False)
        except Exception as exc:
            verdict, reason = judge(exc, self.connection)
            # what was sent is not known
            self.lost = True
            for parcel in left:
                parcel.settle("unknown", reason)
            return
        for (_, _, pushed), answer in zip(pushes, answers, strict=True):
            outcome, reason = "published", ""
            if isinstance(answer, Exception):
                verdict, reason = judge(answer, self.connection)
                outcome = OUTCOMES.get(verdict, verdict)
            for parcel in pushed:
                parcel.settle(outcome, reason)

    def _publish_batch(self, parcels: list[Parcel], lease: Lease) -> None:
        """Send messages by kombu's batch, which routes and serializes each."""
        answers: list[Any] = []
        spans: list[tuple[Parcel, int, int]] = []
        try:
            # never flushed by its size: the answers must all be ours
            with self.producer.batch(max_size=1_000_000) as batch:
                for parcel in parcels:
                    start = _buffered(batch)
                    if self.publish(parcel):
                        spans.append((parcel, start, _buffered(batch)))
                if not all(lease.holds(parcel.claim) for parcel in parcels):
                    raise _Stalled
                if spans:
                    pipeline = batch.state.session.pipeline
                    pipeline.execute = _keeping(pipeline.execute, answers)
        except _Stalled:
            # what is ours of it is claimed anew
            for parcel, _, _ in spans:
                parcel.settle("unsent" if lease.holds(parcel.claim) else "stalled")
            return
        except Exception as exc:
            verdict, reason = judge(exc, self.connection)
            if verdict == "odd":
                # no single message is to blame, and what was sent is not known
                verdict = "lost"
            self.lost = verdict == "lost"
            left = [parcel for parcel in parcels if parcel.outcome is None]
            if verdict in ("failed", "refused"):
                # one of them can't be made a command, which is found before any is sent
                super().send(left, lease)
                return
            for parcel in left:
                parcel.settle(OUTCOMES.get(verdict, verdict), reason)
            return
        for parcel, start, stop in spans:
            errors = [answer for answer in answers[start:stop] if isinstance(answer, Exception)]
            if errors:
                verdict, reason = judge(errors[0], self.connection)
                parcel.settle(OUTCOMES.get(verdict, verdict), reason)
            else:
                parcel.settle("published")


class _Stalled(Exception):
    """Leaves kombu's batch without flushing it."""


def _buffered(batch: Any) -> int:
    """How many commands a batch of kombu's has gathered."""
    return len(batch.state.session.pipeline) if batch.state.session is not None else 0


def _keeping(execute: Callable[..., list[Any]], answers: list[Any]) -> Callable[..., list[Any]]:
    """`Pipeline.execute` that keeps errors among the answers instead of raising the first."""

    def execute_and_keep(*_: Any, **__: Any) -> list[Any]:
        answers.extend(execute(raise_on_error=False))
        return answers

    return execute_and_keep

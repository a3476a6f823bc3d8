"""Redis: messages are sent a batch at a time, with an answer for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

from kombu.transport.redis import Channel
from kombu.utils.uuid import uuid

from celery_redis_expiry.connections import pack_quickly
from celery_redis_expiry.timer import Templated
from celery_redis_expiry.worker.publishing.envelopes import Envelope, envelope
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import Parcel, judge
from celery_redis_expiry.worker.publishing.pushed import pushed
from celery_redis_expiry.worker.publishing.senders import OUTCOMES, OneByOne

#: How many messages of a kind, and characters of them, go into one LPUSH: Redis does nothing else meanwhile.
PUSHED, LONGEST = 100, 200_000


class RedisBatches(OneByOne):
    """Redis: kombu's `Producer.batch` (kombu 5.7), and each message settled by Redis's answer to it.

    kombu raises the first error of a batch, though Redis took the others (a server that gets full in the
    middle of it). Publishing those again would double them; so the answers are kept, and nothing is raised.

    Arguments:
        prepare: makes of a stored message its body and the arguments of `publish`.
    """

    def __init__(
        self, connection: Any, producer: Any, prepare: Callable[..., tuple[Any, dict[str, Any]]]
    ) -> None:
        super().__init__(connection, producer)
        self._prepare = prepare
        if type(producer.channel) is Channel:
            # not `channel.client`, which has a pool of its own
            with producer.channel.conn_or_acquire() as client:
                pack_quickly(client)
            producer.channel.pool.disconnect()
            producer.channel.pool.reset()

    def ask(self) -> None:
        # by a connection that publishes: another one says nothing of it
        with self.producer.channel.conn_or_acquire() as client:
            client.ping()

    def run_id(self) -> str:
        return str(self.producer.channel.client.info("server")["run_id"])

    def pushed(self, content: dict[str, Any]) -> tuple[str, str]:
        """The list and the value that kombu would push for a stored message; what it needs is declared.

        Raises:
            NotPlain: it would do something else.
        """
        body, arguments = self._prepare(content)
        for entity in arguments.pop("declare"):
            self.producer.maybe_declare(entity)
        return pushed(self.producer, body, arguments)

    def study(self, parcel: Parcel, stored: Templated) -> Envelope | None:
        # the bindings of an exchange may change, and kombu reads them for each message
        if not self._batches or parcel.arguments.get("exchange"):
            return None
        found = envelope(stored.template, self.pushed)
        if found is None:
            return None
        # kombu has the last word: where it pushes this very message in another way, it goes on pushing all
        queue, text = self.pushed(stored.content)
        tag = json.loads(text)["properties"]["delivery_tag"]
        return found if (queue, text) == (found.queue, found.fill(stored.parts, stored.id, tag)) else None

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
        pushes = _pushes(parcels)
        left = [parcel for parcel in parcels if parcel.outcome is None]
        if not all(lease.holds(parcel.claim) for parcel in left):
            for parcel in left:
                # what is ours of it is claimed anew
                parcel.settle("unsent" if lease.holds(parcel.claim) else "stalled")
            return
        try:
            with (
                self.producer.channel.conn_or_acquire() as client,
                client.pipeline(transaction=False) as pipe,
            ):
                for key, values, _ in pushes:
                    # the key has its prefix
                    pipe.pipeline_execute_command("LPUSH", key, *values)
                answers = pipe.execute(raise_on_error=False)
        except Exception as exc:
            verdict, reason = judge(exc, self.connection)
            # no single message is to blame; but for a refusal, what was sent is not known
            self.lost = verdict in ("lost", "odd")
            for parcel in left:
                parcel.settle("unknown" if self.lost else "failed", reason)
            return
        now = time.monotonic()
        for (_, _, theirs), answer in zip(pushes, answers, strict=True):
            outcome, reason = "published", ""
            if isinstance(answer, Exception):
                verdict, reason = judge(answer, self.connection)
                outcome = OUTCOMES.get(verdict, verdict)
            for parcel in theirs:
                parcel.settle(outcome, reason, now)

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


def _pushes(parcels: list[Parcel]) -> list[tuple[Any, list[str], list[Parcel]]]:
    """Key and values of each LPUSH, and whose they are. A message that can't be one is settled."""
    pushes: list[tuple[Any, list[str], list[Parcel]]] = []
    # any tag will do that no other message has
    serial, length = uuid(), 0
    for number, parcel in enumerate(parcels):
        try:
            stored = cast(Templated, parcel.stored)
            value = parcel.kind.fill(stored.parts, stored.id, f"{serial}-{number}")
        except Exception as exc:
            parcel.settle("refused", f"it can't be sent: {exc!r}")
            continue
        length += len(value)
        queue = parcel.kind.queue
        if not pushes or pushes[-1][0] != queue or len(pushes[-1][1]) >= PUSHED or length > LONGEST:
            pushes.append((queue, [], []))
            length = len(value)
        pushes[-1][1].append(value)
        pushes[-1][2].append(parcel)
    return pushes


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

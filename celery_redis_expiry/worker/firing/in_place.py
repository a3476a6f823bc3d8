"""Fires in place what can be; the rest is claimed and published."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from celery_redis_expiry.errors import StoreFull, StoreUnavailable, StoreUnreachable
from celery_redis_expiry.keys import COMPACT, HANDLE, PLACE, label_of, new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import OLDEST, SLICE, Due, Filled, Fired, Shard, Store
from celery_redis_expiry.template import Template
from celery_redis_expiry.timer import shown, split_record
from celery_redis_expiry.worker.firing.eligible import why_not
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.publishing import BrokerUnavailable, Envelope, Publisher, envelope
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether it is possible: as a rule, and after it was refused.
LOOK_AGAIN, REFUSED = 60.0, 5.0
#: How many envelopes are remembered.
ENVELOPES = 2000
#: Seconds for which what the index tells of is fired before the lanes have their turn.
TURN = 0.1
#: How many slices are on their way at once: while Redis fires one, the next is there already.
AHEAD = 2
#: Bytes of messages and stored messages that one script gets at most, or those of one timer.
LARGE = 1_000_000
OFF = "expiry_fire_in_place is off"

Members = Sequence[tuple[str, bool]]


class InPlace:
    """Used by the dispatcher's thread; what it tells of itself may be read by any.

    Arguments:
        wanted: the setting `expiry_fire_in_place`.
        figures: that count what fired.

    Attributes:
        why_not: why it is not possible, in a few words; "" where it is.
    """

    def __init__(
        self, app: Any, store: Store, publisher: Publisher, lanes: Lanes, figures: Figures, *, wanted: bool
    ) -> None:
        self.why_not = "nothing was due yet" if wanted else OFF
        self._app = app
        self._store = store
        self._publisher = publisher
        self._lanes = lanes
        self._figures = figures
        self._wanted = wanted
        self._channel: Any = None
        self._look_at = 0.0
        # by shard: what the last two looks told of; told by the pacer's thread
        self._expected: dict[int, tuple[dict[str, Due], dict[str, Due]]] = {}
        # None: kombu must make the messages
        self._envelopes: dict[bytes, tuple[Template, Envelope] | None] = {}

    @property
    def possible(self) -> bool:
        return not self.why_not

    def fire(self, shard: Shard, members: Members, *, more: bool = True) -> Members:
        """Fire what can be, and return what must be claimed.

        That is all of them where Redis refuses something: of what fired nevertheless a claim finds nothing.

        Arguments:
            more: whether, where these are many, what else the index says is due may be fired too.

        Raises:
            StoreUnreachable: Redis does not answer; what fired nobody knows.
        """
        if not self._wanted:
            return members
        self._look()
        if not self.possible:
            return members
        left: list[tuple[str, bool]] = []
        try:
            self._fire(shard, members, left)
            if more and len(members) >= SLICE:
                self._drain(shard, left)
        except StoreUnreachable:
            raise
        except StoreFull:
            return members  # it takes no message, from whomever
        except StoreUnavailable as exc:
            self._say(str(exc))
            self._look_at = time.monotonic() + REFUSED
            return members
        return left

    def expect(self, shard: int, coming: Sequence[Due]) -> None:
        """These fall due next, so that they need not be read again when they do; may be called by any thread.

        What becomes of them meanwhile is for the script to see.
        """
        last, _ = self._expected.get(shard, ({}, {}))
        self._expected[shard] = {due.member: due for due in coming}, last

    # -- firing

    def _fire(self, shard: Shard, members: Members, left: list[tuple[str, bool]]) -> None:
        """Fire these; what must be claimed is added to what is `left`."""
        for start in range(0, len(members), SLICE):
            dues = self._read(shard, members[start : start + SLICE])
            for part in _cut(self._filled(shard, dues, left)):
                # alone on its way, a call is tried again where the connection was lost
                self._see_to(shard, shard.fire(part, token=new_token()), left)

    def _read(self, shard: Shard, members: Members) -> list[Due]:
        last, before = self._expected.get(shard.number, ({}, {}))
        dues = []
        for member, expired in members:
            due = last.get(member) or before.get(member)
            if due is None:
                return shard.read_due(members)
            dues.append(due._replace(expired=expired))
        return dues

    def _drain(self, shard: Shard, left: list[tuple[str, bool]]) -> None:
        """Fire what the index tells of, for a while: it has the oldest, and what has just fallen due."""
        until = time.monotonic() + TURN / len(self._store.shards)
        seen = {member for member, _ in left}
        found: list[Due] | None = shard.read_oldest()
        with shard.firing() as line:

            def answered() -> list[Due] | None:
                answer = line.answer()
                if not isinstance(answer, Fired):
                    return answer
                self._see_to(shard, answer, left)
                return None

            while found is not None:
                # the last slice was made after this page was asked for; what could not be fired stands there;
                # and the newest of not many are among the oldest, too
                news = list({due.member: due for due in found if due.member not in seen}.values())
                seen.update(due.member for due in news)
                more = len(found) >= OLDEST
                found = None
                for start in range(0, len(news), SLICE):
                    if more and start + SLICE >= len(news) and time.monotonic() < until:
                        # before the last slice is made, so that the next page is there when it is
                        line.read_oldest()
                    for part in _cut(self._filled(shard, news[start : start + SLICE], left)):
                        line.fire(part)
                        while line.slices >= AHEAD:
                            found = answered() or found
                while line.waits and not found:
                    found = answered() or found

    def _filled(self, shard: Shard, dues: Sequence[Due], left: list[tuple[str, bool]]) -> list[Filled]:
        """With the messages that can be made; the others are added to what is left."""
        filled = []
        tag = str(uuid4())[:-8]
        for number, due in enumerate(dues):
            if not due.record or _is_older(due):
                filled.append(Filled(due, "", ""))  # nothing to do, as a rule; the script knows
                continue
            queue, message = self._message(shard, due, f"{tag}{number:08x}")
            if message is None:
                left.append((due.member, due.expired))
            else:
                filled.append(Filled(due, queue, message))
        return filled

    def _message(self, shard: Shard, due: Due, tag: str) -> tuple[str, str | None]:
        """The list and the message that a timer goes out by; None where kombu must make it."""
        parts = split_record(due.record, due.member)
        if parts is None:
            return "", None
        id, ref, rest = parts
        known = self._envelopes[ref] if ref in self._envelopes else self._envelope(shard, ref)
        if known is None:
            return "", None
        template, made = known
        try:
            return made.queue, made.fill(template.parts(rest), id, tag)
        except Exception as exc:
            # also what decoders of users' own types raise
            logger.debug("expiry: %s can't be read, which is for the claim to tell: %r", due.member, exc)
            return "", None

    def _envelope(self, shard: Shard, ref: bytes) -> tuple[Template, Envelope] | None:
        template = shard.template(ref)
        if template is None:
            return None
        try:
            made = envelope(template, self._publisher.pushed)
        except BrokerUnavailable as exc:
            logger.debug("expiry: an envelope can't be made now: %s", exc)
            return None
        except Exception as exc:  # NotPlain, as a rule
            logger.debug("expiry: messages of %s are published: %r", template.content.get("task"), exc)
            made = None
        if len(self._envelopes) >= ENVELOPES:
            self._envelopes.clear()
        known = self._envelopes[ref] = None if made is None else (template, made)
        return known

    def _see_to(self, shard: Shard, answer: Fired, left: list[tuple[str, bool]]) -> None:
        left += answer.signed("e")
        fired, latenesses = answer.signed("f"), answer.latenesses
        if not fired:
            return
        told = zip((by_event for _, by_event in fired), latenesses, strict=True)
        self._figures.fired(told, in_place=True)
        self._lanes.fired(shard.number, (member for member, _ in fired))
        if logger.isEnabledFor(logging.DEBUG):
            for (member, _), lateness in zip(fired, latenesses, strict=True):
                timer = shown(label_of(member))
                logger.debug(
                    "expiry: fired timer %s in place, %.0f ms late",
                    timer,
                    lateness * 1000,
                    extra=log_fields("fired", timer=timer, shard=shard.number, lateness=lateness),
                )

    def _look(self) -> None:
        """Find out whether it is possible: anew with each connection, and now and then."""
        channel, now = self._publisher.channel, time.monotonic()
        if channel is self._channel and now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN
        try:
            self._say(why_not(self._app, self._store, channel, self._publisher.run_id()))
        except StoreUnreachable:
            raise
        except Exception as exc:
            self._say(f"whether the broker is the Redis with the timers can't be told: {exc}")
            self._look_at = now + REFUSED
        if channel is not self._channel:
            self._envelopes.clear()
        self._channel = channel

    def _say(self, why_not: str) -> None:
        if why_not == self.why_not:
            return
        self.why_not = why_not
        if why_not:
            logger.info(
                "expiry: timers are claimed and published, not fired in place: %s",
                why_not,
                extra=log_fields("not_in_place", reason=why_not),
            )
        else:
            logger.info("expiry: timers are fired in place", extra=log_fields("in_place"))


def _cut(timers: list[Filled]) -> Iterator[list[Filled]]:
    """In slices that are not too large for one command."""
    part: list[Filled] = []
    size = 0
    for timer in timers:
        its = len(timer.message) + len(timer.due.record)
        if part and size + its > LARGE:
            yield part
            part, size = [], 0
        part.append(timer)
        size += its
    if part:
        yield part


def _is_older(due: Due) -> bool:
    """Whether its place is another generation's by now."""
    return due.handle.startswith(COMPACT) and due.record[1 : 1 + HANDLE - PLACE] != due.handle[PLACE:]

"""Fires in place what can be; the rest is claimed and published."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from celery_redis_expiry.errors import StoreFull, StoreUnavailable, StoreUnreachable
from celery_redis_expiry.keys import label_of, new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import SLICE, Fired, Shard, Store
from celery_redis_expiry.timer import shown
from celery_redis_expiry.worker.firing.eligible import kind_of, why_not
from celery_redis_expiry.worker.lanes import Lanes
from celery_redis_expiry.worker.publishing import BrokerUnavailable, NotPlain, Publisher, envelope
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether it is possible: as a rule, and after it was refused.
LOOK_AGAIN, REFUSED = 60.0, 5.0
#: How many lists are remembered, which each call names; one that is forgotten is learned of again.
QUEUES = 100
#: How many slices are on their way at once.
IN_FLIGHT = 2
OFF = "expiry_fire_in_place is off"

Members = Sequence[tuple[str, bool]]


class InPlace:
    """Used by the dispatcher's thread, and by two of its own; what it tells of itself may be read by any.

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
        self._kind = b""
        self._queues: tuple[str, ...] = ()
        self._threads = ThreadPoolExecutor(IN_FLIGHT, "expiry-firing")

    @property
    def possible(self) -> bool:
        return not self.why_not

    def fire(self, shard: Shard, members: Members) -> Members:
        """Fire what can be, and return the rest, of which nothing was done.

        Raises:
            StoreUnreachable: Redis does not answer; what fired nobody knows.
        """
        if not self._wanted:
            return members
        self._look()
        if not self.possible:
            return members
        slices = [members[start : start + SLICE] for start in range(0, len(members), SLICE)]
        left: list[tuple[str, bool]] = []
        refused: list[tuple[str, bool]] = []
        problem: StoreUnavailable | None = None
        for part, answer in zip(slices, self._answers(shard, slices), strict=True):
            try:
                left += self._see_to(shard, part, answer.result())
            except StoreFull:
                left += part  # it takes no message, from whomever
            except StoreUnavailable as exc:
                refused += part
                if not isinstance(problem, StoreUnreachable):
                    problem = exc
        if isinstance(problem, StoreUnreachable):
            raise problem
        if problem is not None:
            self._say(str(problem))
            self._look_at = time.monotonic() + REFUSED
        return [*left, *refused]

    def _answers(self, shard: Shard, slices: Sequence[Members]) -> list[Future[Fired]]:
        """What the script says to each. While it fires one slice, the next is put together."""
        if len(slices) > 1:
            return [self._threads.submit(self._fire, shard, part) for part in slices]
        answers: list[Future[Fired]] = [Future() for _ in slices]
        for part, answer in zip(slices, answers, strict=True):
            try:
                answer.set_result(self._fire(shard, part))
            except StoreUnavailable as exc:
                answer.set_exception(exc)
        return answers

    def _fire(self, shard: Shard, members: Members, brought: Mapping[bytes, str] | None = None) -> Fired:
        answer = shard.fire(members, token=new_token(), kind=self._kind, queues=self._queues, brought=brought)
        self._count(shard, members, answer)
        return answer

    def _see_to(self, shard: Shard, members: Members, answer: Fired) -> list[tuple[str, bool]]:
        """Fire what only lacks an envelope; what is left to be claimed."""
        left = [member for member, sign in zip(members, answer.outcomes, strict=True) if sign == "e"]
        again = [member for member, sign in zip(members, answer.outcomes, strict=True) if sign == "u"]
        if not again:
            return left
        made = {ref: self._envelope(shard, ref) for ref in answer.unknown}
        known = {ref: each for ref, each in made.items() if each is not None}
        signs = self._fire(shard, again, known).outcomes
        return left + [member for member, sign in zip(again, signs, strict=True) if sign in "eu"]

    def _envelope(self, shard: Shard, ref: bytes) -> str | None:
        """The envelope of a template; "" where there can be none, None where that can't be told now."""
        template = shard.template(ref)
        if template is None:
            return None
        try:
            made = envelope(template, self._publisher.pushed)
        except BrokerUnavailable as exc:
            logger.debug("expiry: an envelope can't be made now: %s", exc)
            return None
        except NotPlain as exc:
            logger.debug("expiry: messages of %s are published: %s", template.content.get("task"), exc)
            return ""
        if made is None:
            return ""
        if made["queue"] not in self._queues:
            self._queues = (*self._queues[-QUEUES:], made["queue"])
        return json.dumps(made)

    def _count(self, shard: Shard, members: Members, answer: Fired) -> None:
        signs, latenesses = answer.outcomes, answer.latenesses
        fired = [member for member, sign in zip(members, signs, strict=True) if sign == "f"]
        if not fired:
            return
        told = zip((by_event for _, by_event in fired), latenesses, strict=True)
        self._figures.fired(told, in_place=True)
        self._lanes.published(member for member, _ in fired)
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
        if self.possible and channel is not self._channel:
            self._kind = kind_of(self._app, channel)
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

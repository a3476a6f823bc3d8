"""What one worker writes into the ledger of one watch while it leads there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence

from celery_redis_expiry.errors import StoreFull
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import Delivery, Note, NotLeading, Shard
from celery_redis_expiry.worker.watching.watch import Watch

logger = logging.getLogger(__name__)

#: Seconds for which a worker leads without saying so again, and after which it says so.
LEASE = 6.0
RENEW = 2.0
#: How many keys are asked for at once at most.
PAGE = 500
#: The longest sleep: it covers clock steps.
CAP = 60.0
#: Seconds between two warnings of one kind.
WARN_EVERY = 600.0


class Ledger:
    """Every change is refused by Redis once another worker leads: one that stalled delivers nothing.

    Arguments:
        shard: the first one.
        limit: how many keys it may hold (`expiry_watch_limit`).

    Attributes:
        leads: whether this worker leads, as far as it knows.
        size: how many keys it holds, as of the last `note`.
        wake: when the next of them is due, on the monotonic clock.
    """

    def __init__(self, shard: Shard, watch: Watch, limit: int) -> None:
        self._shard = shard
        self._watch = watch
        self._limit = limit
        self._token = new_token()
        self._asked = float("-inf")
        self._warned = float("-inf")
        # Redis's clock less the monotonic one, s: at least, and at most, since its answer took time
        self._offsets = 0.0, 0.0
        self.leads = False
        self.size = 0
        self.wake = 0.0

    # -- who leads

    def keep(self) -> str:
        """Lead, or go on leading; asks Redis now and then.

        Returns:
            `led`, `taken` (since now, perhaps not for the first time), or `other`.
        """
        now = time.monotonic()
        if now - self._asked < RENEW:
            return "led" if self.leads else "other"
        standing = self._shard.lead(self._watch.id, self._token, LEASE)
        self._asked = now
        self.leads = standing != "other"
        return standing

    def doubt(self) -> None:
        """Something failed: ask Redis before the next step who leads."""
        self._asked = float("-inf")

    def _lead_on(self) -> None:
        """Before each step of what may take longer than the lease: many events at once, many keys."""
        if self.keep() != "led":
            raise NotLeading(f"another worker may have watched {self._watch.id} meanwhile")

    def renew_in(self) -> float:
        """Seconds until `keep` asks Redis again."""
        return max(0.0, self._asked + RENEW - time.monotonic())

    def cease(self) -> None:
        """Let another lead at once."""
        if self.leads:
            self.leads = False
            self._shard.lead(self._watch.id, self._token, 0)

    # -- what it holds

    def note(self, notes: Sequence[Note]) -> None:
        """Write down when keys expire."""
        if not notes:
            return
        self._lead_on()
        try:
            self.size, refused = self._shard.note(self._watch.id, self._token, notes, self._limit)
        except StoreFull as exc:
            if self._may_warn():
                logger.warning(
                    "expiry: %s. Until there is memory, what expires while no worker is up is lost",
                    exc,
                    extra=log_fields("watch_full"),
                )
            return
        soonest = min((note.ttl for note in notes if note.ttl is not None), default=None)
        if soonest is not None:
            self.wake_at(time.monotonic() + (soonest + 1) / 1000)
        if refused and self._may_warn():
            logger.warning(
                "expiry: %d keys match %r, as many as expiry_watch_limit allows. Others are told of while "
                "this worker listens, but late, and are lost if they expire while none does: raise the "
                "limit, or name fewer keys",
                self.size,
                self._watch.pattern,
                extra=log_fields("watch_limit", count=self.size),
            )

    def _may_warn(self) -> bool:
        now = time.monotonic()
        if now - self._warned < WARN_EVERY:
            return False
        self._warned = now
        return True

    def agenda(self) -> list[tuple[bytes, int]]:
        """What is due now, as (key, due in ms); `wake` says when to ask again."""
        before = time.monotonic()
        agenda = self._shard.agenda(self._watch.id, limit=PAGE)
        now = time.monotonic()
        self._offsets = agenda.now / 1000 - now, agenda.now / 1000 - before
        pause = CAP if agenda.next is None else (agenda.next + 1 - agenda.now) / 1000
        # a full page hides more
        self.wake = now if len(agenda.rows) >= PAGE else now + min(CAP, pause)
        return agenda.rows

    def ahead(self, since: int, seconds: float, limit: int) -> tuple[int, list[bytes], float | None]:
        """What will be due within so many seconds, and was not read before.

        Arguments:
            since: due time (ms) up to which it was.

        Returns:
            Up to which due time it is read now; the keys; in how many seconds the next after these is due.
        """
        agenda = self._shard.agenda(self._watch.id, limit=limit, ahead=seconds, since=since)
        rows, until = agenda.rows, agenda.now + int(seconds * 1000) - 1
        if len(rows) >= limit:
            # of those that share its due time the page may hold but a part
            until = max(since + 1, rows[-1][1] - 1)
        following = rows[-1][1] if len(rows) >= limit else agenda.next
        pause = None if following is None else (following - agenda.now) / 1000
        return until, [key for key, _ in rows], pause

    def wake_at(self, moment: float) -> None:
        """See to it that `wake` is no later than this, on the monotonic clock."""
        self.wake = min(self.wake, moment)

    def now(self) -> int:
        """Redis's clock as far as it is known here, ms."""
        return round((time.monotonic() + sum(self._offsets) / 2) * 1000)

    def earliest(self, moment: float) -> int:
        """What Redis's clock showed at a moment of the monotonic clock, ms: not more than that."""
        return math.floor((moment + self._offsets[0]) * 1000)

    def latest(self) -> int:
        """What Redis's clock shows now, ms: not less than that, however slow its answers are."""
        return math.ceil((time.monotonic() + self._offsets[1]) * 1000) + 1

    def pages(self) -> Iterator[list[tuple[bytes, int]]]:
        """All keys with their due times, ms, page by page."""
        return self._shard.ledger(self._watch.id)

    def known(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int | None, bytes | None]]:
        """Due time (ms) and snapshot of these keys."""
        return dict(zip(keys, self._shard.known(self._watch.id, keys), strict=True)) if keys else {}

    def deliver(self, delivery: Delivery) -> None:
        """Forget keys that are gone, and store the timers that tell of them."""
        self._lead_on()
        self._shard.deliver(self._watch.id, self._token, delivery)

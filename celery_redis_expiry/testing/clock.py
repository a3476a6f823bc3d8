"""The clock of a test: what is due fires when the test says that time has passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import tell_cancelled
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.keys import new_token
from celery_redis_expiry.messages import occurrence_of
from celery_redis_expiry.selection import Selection
from celery_redis_expiry.settings import Settings
from celery_redis_expiry.store import Claims, Recurs, Shard, Store
from celery_redis_expiry.testing.moving import ProcessClock
from celery_redis_expiry.testing.own_keys import OwnKeys
from celery_redis_expiry.testing.running import Here, Worker
from celery_redis_expiry.testing.seen import FiredTimer, PendingTimer, call_of
from celery_redis_expiry.timer import LATEST, Claimed, Undecodable, as_datetime, as_ms
from celery_redis_expiry.worker.recurrence import Recurrence
from celery_redis_expiry.worker.reporting.figures import Figures

#: How many timers are claimed together, if they are due at the same ms.
BATCH = 500
#: By how many ms the TTL of a trigger key may differ from what the index says: on Redis before 7 that takes a
#: moment to ask.
ROUNDING = 500
#: Seconds of a claim.
LEASE = 3600.0
#: Who buries what can't go on, for the dead letters.
ORIGIN = "expiry_clock"
#: How often at most something fires in one advance.
ROUNDS = 100_000


class ExpiryClock:
    """The clock of the timers of an app, and of this process, in a test.

    It goes by itself as ever, unless the test has frozen it; what is due fires only by `advance` and
    `advance_to`.

    Attributes:
        app: the Celery app.
        redis: a client of redis-py for the Redis of its timers, be it real or in memory.
    """

    def __init__(self, app: Any, store: Store, runner: Here | Worker, process: ProcessClock) -> None:
        self.app = app
        self.redis: Any = store.link.client
        self._store = store
        self._runner = runner
        self._process = process
        self._own_keys = OwnKeys(app, store)
        self._recurrence = Recurrence(app, Figures())
        self._advancing = False

    def now(self) -> datetime:
        """The time, aware, in UTC: what `datetime.now(timezone.utc)` says too."""
        return as_datetime(self._process.now())

    def advance(self, by: timedelta | None = None, /, **units: float) -> list[FiredTimer]:
        """Let time pass, and fire what falls due meanwhile, in the order of due times, each at its time.

        What that schedules fires as well, where it is due within the same time: retries with a countdown
        that becomes a timer, further timers, each occurrence of a recurring one. Nothing sleeps.

        Arguments:
            by: how long.
            units: instead: `days=1`, `hours=2`, as of a timedelta. Without either what is due by now fires.

        Returns:
            What fired, in order.

        Raises:
            ValueError: time does not go back.
            TypeError: for units that a timedelta does not have.
            NotConfigured: time-machine is not installed, which moves the clock of this process.
            Undecodable: a recurring timer can't go on, and is a dead letter.
            Whatever a task raises, with `task_eager_propagates`.
        """
        if by is not None and units:
            raise TypeError("advance takes a timedelta, or its units, such as days=1, and not both")
        span = timedelta(**units) if by is None else by
        if not isinstance(span, timedelta):
            raise TypeError(
                f"advance takes a timedelta, or its units, such as days=1, not {type(by).__name__}"
            )
        # what is due so long after this very moment is due at the start of the ms that follows
        return self._advance(self._process.now(ceil=True) + round(span / timedelta(milliseconds=1)))

    def advance_to(self, moment: datetime) -> list[FiredTimer]:
        """The same until a moment, a naive one being in `app.timezone`."""
        if not isinstance(moment, datetime):
            raise TypeError(f"advance_to takes a datetime, not {type(moment).__name__}")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.app.timezone)
        return self._advance(round(moment.timestamp() * 1000))

    def pending(self, *, task: str | None = None, name: str | None = None) -> list[PendingTimer]:
        """The timers that wait, soonest first; those that are parked or wait for a key come last.

        Arguments:
            task, name: patterns, as of `iter_timers`.
        """
        selection = Selection(task, name)
        found = [
            timer
            for shard in self._store.shards
            for state in ("waiting", "parked")
            for timer in self._pending_in(shard, state, selection)
        ]
        last = datetime.max.replace(tzinfo=timezone.utc)
        return sorted(found, key=lambda each: each.due or last)

    def _pending_in(self, shard: Shard, state: str, selection: Selection) -> Iterator[PendingTimer]:
        trigger = len(shard.keys.trigger(""))
        timers = [each for _, each in shard.listed(state, selection, None, BATCH) if selection.takes(each)]
        stored = shard.stored_of([each.trigger_key[trigger:] for each in timers])
        for timer, each in zip(timers, stored, strict=True):
            if isinstance(each, Undecodable):
                raise each
            call = call_of(each.content, self.app)
            yield PendingTimer(
                *(timer.id, timer.name, timer.task, call.args, call.kwargs, call.canvas),
                *(timer.due, timer.remaining, timer),
            )

    # -- the steps of time

    def _advance(self, target: int) -> list[FiredTimer]:
        if target < self._process.now():
            raise ValueError(
                f"{as_datetime(target)} has passed: it is {self.now()}, and time does not go back"
            )
        if self._advancing:
            raise RuntimeError("what fires must not advance the clock by which it fires")
        self._advancing = True
        try:
            with self._process.standing():
                return self._fire_until(min(target, LATEST - 1))
        finally:
            self._advancing = False

    def _fire_until(self, target: int) -> list[FiredTimer]:
        self._follow_trigger_keys()
        fired: list[FiredTimer] = []
        for _ in range(ROUNDS):
            due, key_due = self._next_due(), self._own_keys.next_due(self._process.now())
            moment = min(due, key_due)
            if moment > target:
                self._process.move_to(target)
                return fired
            if key_due <= due:
                self._own_keys.expire(key_due, self._process)
                # what waits for a key is due a ms after it
                target = max(target, self._process.now() + 1)
            else:
                self._process.move_to(moment)
                fired += self._fire(due)
        raise RuntimeError(
            f"something fired {ROUNDS} times, and the clock is at {self.now()} only: does a task schedule "
            "itself again at once? If a recurring timer fires that often, let less time pass in one advance"
        )

    def _follow_trigger_keys(self) -> None:
        """Some test may have given a trigger key another TTL, or none."""
        for shard in self._store.shards:
            for state in ("waiting", "parked"):
                for rows in list(shard.pages(state, Selection(), BATCH)):
                    shard.touch(self._moved(shard, state, rows))

    def _moved(self, shard: Shard, state: str, rows: Sequence[tuple[str, float]]) -> list[str]:
        """Those whose trigger keys say otherwise than the index."""
        asked = [("TIME",), *(("PTTL", shard.keys.trigger(member)) for member, _ in rows)]
        with self._store.link.translated():
            (seconds, micros), *ttls = run(self._store.link.pipeline(asked, at=shard.keys.namespace))
        now = int(seconds) * 1000 + int(micros) // 1000
        moved = []
        for (member, score), ttl in zip(rows, ttls, strict=True):
            if state == "parked":
                differs = ttl != -1
            else:
                differs = ttl == -1 or (ttl >= 0 and abs(now + ttl - score) > ROUNDING)
            if differs:
                moved.append(member)
        return moved

    def _next_due(self) -> int:
        """When the first timer is due; that of one that waits for a key is beyond all others."""
        heads = [rows[0][1] for shard in self._store.shards if (rows := next(self._waiting(shard, 1), None))]
        return as_ms(min(heads)) if heads else LATEST

    @staticmethod
    def _waiting(shard: Shard, page: int, high: int = LATEST) -> Iterator[list[tuple[str, float]]]:
        return shard.pages("waiting", Selection(high=high), page)

    # -- firing

    def _fire(self, due: int) -> list[FiredTimer]:
        """Fire what is due at this ms."""
        fired: list[FiredTimer] = []
        for shard in self._store.shards:
            rows = next(self._waiting(shard, BATCH, due), [])
            if rows:
                fired += self._fire_of(shard, [member for member, _ in rows])
        return fired

    def _fire_of(self, shard: Shard, members: Sequence[str]) -> list[FiredTimer]:
        k, token = shard.keys, new_token()
        # a key lives until its time has passed; here it is over when it comes
        with self._store.link.translated():
            run(self._store.link.pipeline([("DEL", k.trigger(member)) for member in members], at=k.namespace))
        claims = shard.claim([(member, True) for member in members], token=token, lease=LEASE)
        fired = self._run(token, shard, claims)
        if claims.guarded:
            token = new_token()
            allowed = shard.claim_guarded(claims.guarded, token=token, lease=LEASE)
            if allowed.called_off and Settings.of(self.app).mark_revoked:
                tell_cancelled(self.app, [each.id for each in allowed.called_off], "its guard called it off")
            fired += self._run(token, shard, allowed)
        if claims.recurring:
            fired += self._recur(shard, claims.recurring)
        return fired

    def _recur(self, shard: Shard, due: Sequence[Recurs]) -> list[FiredTimer]:
        """Arm recurring timers for their next instants, and fire their occurrences.

        Raises:
            Undecodable: one can't go on; it is a dead letter, as in production, and the others have fired.
        """
        occurrences, broken = self._recurrence.occurrences(shard, due)
        token = new_token()
        buried = shard.claim_broken(broken, token=token, lease=LEASE) if broken else ()
        for claim in buried:
            shard.bury(claim, str(claim.stored), ORIGIN)
        fired = self._fire_of(shard, [member for member, _ in occurrences]) if occurrences else []
        for claim in buried:
            raise Undecodable(f"{claim.label} is a dead letter: {claim.stored}")
        return fired

    def _run(self, token: str, shard: Shard, claims: Claims) -> list[FiredTimer]:
        fired: list[FiredTimer] = []
        left = list(claims)
        try:
            with self._runner.together():
                while left:
                    claim = left.pop(0)
                    shard.ack(token, [claim])
                    fired.append(self._run_one(claim))
        finally:
            # an error of one must not lose the others
            shard.release(token, left)
        return [self._with_outcome(each) for each in fired]

    def _run_one(self, claim: Claimed) -> FiredTimer:
        stored = claim.stored
        if isinstance(stored, Undecodable):
            raise stored
        if claim.problem:
            raise ExpiryError(claim.problem)
        call = call_of(stored.content, self.app)
        state, result = self._runner.run(stored, call, claim.due)
        name = claim.label if claim.label != stored.id else occurrence_of(stored.content)
        return FiredTimer(
            *(stored.id, name, stored.content["task"], call.args, call.kwargs, call.canvas),
            *(as_datetime(claim.due), state, result),
        )

    def _with_outcome(self, fired: FiredTimer) -> FiredTimer:
        state, result = self._runner.outcome(fired.id, (fired.state, fired.result))
        return FiredTimer(**{**vars(fired), "state": state, "result": result})

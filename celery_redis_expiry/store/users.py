"""What users' calls do to the store: schedule, look up, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.errors import NamespaceTaken, StoreUnavailable
from celery_redis_expiry.keys import label_of, member, new_token, text
from celery_redis_expiry.store.base import REMEMBER_MS, ShardBase
from celery_redis_expiry.timer import (
    LATEST,
    Outcome,
    Request,
    Timer,
    as_ms,
)

#: A name that is replaced by others at every one of so many attempts: something is wrong with the callers.
CONTENTION = 100


class Users(ShardBase):
    def schedule(self, requests: Sequence[Request]) -> list[Outcome]:
        """Store timers, each according to its mode; the labels in one call must differ.

        Returns:
            An outcome for each, in order.

        Raises:
            NamespaceTaken: the namespace is another app's; nothing was stored.
            StoreFull: Redis is at its maxmemory; nothing was stored.
            Recut: the namespace has another number of shards by now; nothing was stored.
        """
        outcomes: list[Outcome | None] = [None] * len(requests)
        todo = list(range(len(requests)))
        expected: dict[int, str] = {}
        for _ in range(CONTENTION):
            answers = self._schedule_once([(requests[i], expected.get(i, "")) for i in todo])
            again = []
            for i, (status, due, now_current, id, replaced) in zip(todo, answers, strict=True):
                if status == "again":
                    expected[i] = now_current
                    again.append(i)
                else:
                    # a damaged message has lost its task id
                    known = id or label_of(now_current)
                    outcomes[i] = Outcome(status, as_ms(due), now_current, known, replaced)
            if not again:
                return [outcome for outcome in outcomes if outcome is not None]
            todo = again
        raise StoreUnavailable(
            f"{requests[todo[0]].label!r} was replaced by others {CONTENTION} times meanwhile"
        )

    def _schedule_once(self, batch: list[tuple[Request, str]]) -> list[list[str]]:
        k = self.keys
        keys = [
            k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.pacers, k.namespace,
            k.answer(new_token()),
        ]  # fmt: skip
        args: list[Any] = [self.owner, REMEMBER_MS, k.wake, LATEST, self.shards]
        for request, expected in batch:
            new = member(new_token(), request.label)
            keys += [k.trigger(new), k.trigger(expected or new)]
            record = request.stored.encode() if request.stored else b""
            args += [request.mode, request.when, new, request.name or "", request.id, expected, record]
            args.append("" if request.max_wait is None else request.max_wait)
        with self._translated():
            answers: list[list[bytes]] = self._scripts.schedule(keys=keys, args=args)
        if answers[0][0] == b"foreign":
            raise NamespaceTaken(
                f"the namespace {k.namespace_name!r} in {self.location.url} belongs to the app "
                f"{text(answers[0][2])!r}, this is {self.owner!r}: set another expiry_namespace"
            )
        if answers[0][0] == b"shards":
            raise self.recut(text(answers[0][2]))
        # where nothing was stored, nothing was replaced
        return [[*map(text, answer), ""][:5] for answer in answers]

    def find(self, target: str, *, by_name: bool = True) -> str | None:
        """The member for a name (unless `by_name` is False), else for a task id, or None."""
        with self._translated():
            found = self._client.hget(self.keys.names, target) if by_name else None
            found = found or self._client.hget(self.keys.ids, target)
        return text(found) if found else None

    def wait_for_replicas(self, count: int, timeout: float) -> int:
        """Wait until so many replicas have what was stored here until now; returns how many do.

        WAIT is about the writes of its own connection: one that comes later than those that it is asked about
        covers them.

        Arguments:
            timeout: seconds.
        """
        with self._translated():
            pipe = self.server().pipeline(transaction=False)
            pipe.set(self.keys.answer(new_token()), "", px=1)
            pipe.execute_command("WAIT", count, int(timeout * 1000))
            return int(pipe.execute()[-1])

    def inspect(self, found: str) -> Timer | None:
        """The timer of this member, or None once its message is in the broker."""
        k = self.keys
        with self._translated():
            answer = self._scripts.inspect(
                keys=[k.due, k.timers, k.parked, k.claimed, k.claims, k.trigger(found)], args=[found]
            )
        now, state, due, ttl, record = answer
        if state == b"gone":
            return None
        return self._timer(found, state.decode(), as_ms(due), int(ttl), int(now), record)

    def cancel(self, members: Sequence[str], token: str) -> list[tuple[str, str]]:
        """Forget those of these timers that wait: for each `cancelled` and its task id, `claimed`, or `gone`.

        Arguments:
            token: of this call; a repetition with the same one gets the same answer.
        """
        if not members:
            return []
        k = self.keys
        with self._translated():
            answers = self._scripts.cancel(
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.answer(token)),
                    *(k.namespace, *map(k.trigger, members)),
                ],
                args=[REMEMBER_MS, self.shards, *members],
            )
        outcomes = [text(answer).partition(":")[::2] for answer in answers]
        if outcomes[0][0] not in ("cancelled", "claimed", "gone"):
            raise self.recut(outcomes[0][0])
        # a damaged message has lost its task id
        return [
            (outcome, id or label_of(member)) for (outcome, id), member in zip(outcomes, members, strict=True)
        ]

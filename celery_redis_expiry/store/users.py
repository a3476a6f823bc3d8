"""What users' calls do to the store: schedule, look up, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.errors import NamespaceTaken, StoreUnavailable
from celery_redis_expiry.keys import label_of, member, new_token
from celery_redis_expiry.store.base import REMEMBER_MS, StoreBase
from celery_redis_expiry.timer import LATEST, Outcome, Request, Stored, Timer, Undecodable, as_datetime

#: A name that is replaced by others at every one of so many attempts: something is wrong with the callers.
CONTENTION = 100


class Users(StoreBase):
    def schedule(self, requests: Sequence[Request]) -> list[Outcome]:
        """Store timers, each according to its mode; the labels in one call must differ.

        Returns:
            An outcome for each, in order.

        Raises:
            NamespaceTaken: the namespace is another app's; nothing was stored.
            StoreFull: Redis is at its maxmemory; nothing was stored.
        """
        outcomes: list[Outcome | None] = [None] * len(requests)
        todo = list(range(len(requests)))
        expected: dict[int, str] = {}
        for _ in range(CONTENTION):
            answers = self._schedule_once([(requests[i], expected.get(i, "")) for i in todo])
            again = []
            for i, (status, due, now_current, id) in zip(todo, answers, strict=True):
                if status == "again":
                    expected[i] = now_current
                    again.append(i)
                else:
                    outcomes[i] = Outcome(status, int(float(due)), now_current, id)
            if not again:
                return [outcome for outcome in outcomes if outcome is not None]
            todo = again
        raise StoreUnavailable(
            f"{requests[todo[0]].label!r} was replaced by others {CONTENTION} times meanwhile"
        )

    def _schedule_once(self, batch: list[tuple[Request, str]]) -> list[tuple[str, str, str, str]]:
        k = self.keys
        keys = [
            k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.pacers, k.namespace,
            k.answer(new_token()),
        ]  # fmt: skip
        args: list[Any] = [self.owner, REMEMBER_MS, k.wake, LATEST]
        for request, expected in batch:
            new = member(new_token(), request.label)
            keys += [k.trigger(new), k.trigger(expected or new)]
            record = request.stored.encode() if request.stored else b""
            args += [request.mode, request.when, new, request.name or "", request.id, expected, record]
        with self._translated():
            answers = self._scripts.schedule(keys=keys, args=args)
        if answers[0][0] == b"foreign":
            raise NamespaceTaken(
                f"the namespace {k.namespace_name!r} in {self.location.url} belongs to the app "
                f"{answers[0][2].decode()!r}, this is {self.owner!r}: set another expiry_namespace"
            )
        return [tuple(value.decode() for value in answer) for answer in answers]

    def _find(self, target: str, by_name: bool) -> str | None:
        """The member for a name (unless `by_name` is False), else for a task id, or None."""
        with self._translated():
            found = self._client.hget(self.keys.names, target) if by_name else None
            found = found or self._client.hget(self.keys.ids, target)
        return found.decode() if found else None

    def get(self, target: str, *, by_name: bool = True) -> Timer | None:
        """The timer of this name or task id, or None once its message is in the broker."""
        found = self._find(target, by_name)
        k = self.keys
        if found is None:
            return None
        with self._translated():
            answer = self._scripts.inspect(
                keys=[k.due, k.timers, k.parked, k.claimed, k.claims, k.trigger(found)], args=[found]
            )
        now, state, due, ttl, record = answer
        if state == b"gone":
            return None
        # the TTL rules over the index: some client may have moved it
        at = int(float(due))
        moved = int(now) + int(ttl)
        # before Redis 7 a script's TIME and PTTL are a millisecond apart now and then
        if int(ttl) >= 0 and abs(moved - at) > 2:
            at = moved
        label = label_of(found)
        try:
            stored = Stored.decode(record)
            id, task = stored.id, str(stored.content.get("task", "?"))
        except Undecodable:
            id, task = label, "?"
        parked = state == b"parked"
        return Timer(
            id=id,
            name=label if label != id else None,
            task=task,
            due=None if parked else as_datetime(at),
            remaining=None if parked else max(0, at - int(now)) / 1000,
            trigger_key=k.trigger(found),
            state=state.decode(),
        )

    def reschedule(self, target: str, when: str, *, by_name: bool = True) -> bool:
        """Give a timer another due time; False if there is none.

        Arguments:
            when: see `Request`.
        """
        timer = self.get(target, by_name=by_name)
        if timer is None:
            return False
        [outcome] = self.schedule([Request(None, when, "move", timer.name, timer.id)])
        outcome.raise_for_status()
        return outcome.status != "missing"

    def cancel(self, target: str, *, by_name: bool = True) -> bool:
        """Forget a waiting timer: True if it was waiting and will not fire, else False."""
        token = new_token()
        k = self.keys
        for _ in range(CONTENTION):
            found = self._find(target, by_name)
            if found is None:
                return False
            with self._translated():
                answer = self._scripts.cancel(
                    keys=[
                        k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.answer(token),
                        k.trigger(found),
                    ],
                    args=[REMEMBER_MS, found, label_of(found)],
                )  # fmt: skip
            if answer == b"cancelled":
                return True
            # gone: it was replaced between the two steps, or fired
            if answer == b"claimed" or self._find(target, by_name) == found:
                return False
        raise StoreUnavailable(f"{target!r} was replaced by others {CONTENTION} times meanwhile")

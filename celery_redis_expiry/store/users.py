"""What users' calls do to one shard: schedule, look up, cancel. See `blocking`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import (
    compact_member,
    found_at,
    handle,
    label_of,
    member,
    member_of,
    new_token,
    place_of,
    text,
    uuid_of,
)
from celery_redis_expiry.store.adding import Adding
from celery_redis_expiry.store.base import KEEP_MS, REMEMBER_MS
from celery_redis_expiry.store.rescuing import call_of
from celery_redis_expiry.timer import (
    LATEST,
    Outcome,
    Request,
    Timer,
    as_ms,
)

#: A name that is replaced by others at every one of so many attempts: something is wrong with the callers.
CONTENTION = 100


#: Answers of the schedule script that stand for all of a call.
NOTHING_DONE = ("foreign", "shards", "lacking", "clash")


def _told(answer: Any, member: str, id: str) -> list[str]:
    """Status, due time, member, task id and the id that made way, of an answer of the schedule script."""
    if isinstance(answer, bytes):
        return ["scheduled", text(answer), member, id, ""]
    # where nothing was stored, nothing was replaced
    return [text(answer[0]), text(answer[1]), member_of(answer[2]), *map(text, answer[3:]), ""][:5]


class Users(Adding):
    async def schedule(self, requests: Sequence[Request]) -> list[Outcome]:
        """Store timers, each according to its mode; the labels in one call must differ.

        Returns:
            An outcome for each, in order.

        Raises:
            NamespaceTaken: the namespace is another app's; nothing was stored.
            StoreFull: Redis is at its maxmemory; nothing was stored.
            Recut: the namespace has another number of shards by now; nothing was stored.
        """
        added = await self.add(requests)
        if added is not None:
            return added
        outcomes: list[Outcome | None] = [None] * len(requests)
        todo = list(range(len(requests)))
        expected = {i: request.only for i, request in enumerate(requests) if request.only is not None}
        plain: set[int] = set()
        for _ in range(CONTENTION):
            answers = await self._schedule_once(
                [(requests[i], expected.get(i, ""), i in plain) for i in todo]
            )
            again = []
            for i, (status, due, now_current, id, replaced) in zip(todo, answers, strict=True):
                if status == "again" and requests[i].only is not None:
                    outcomes[i] = Outcome("kept", as_ms(due), now_current, id, "")
                elif status == "again":
                    expected[i] = now_current
                    again.append(i)
                elif status == "plain":
                    plain.add(i)
                    again.append(i)
                else:
                    # a damaged message has lost its task id
                    known = id or label_of(now_current)
                    outcomes[i] = Outcome(status, as_ms(due), now_current, known, replaced)
            if not again:
                return [outcome for outcome in outcomes if outcome is not None]
            todo = again
            # a part of the call is another call
            requests = [request._replace(token="") for request in requests]
        raise StoreUnavailable(
            f"{requests[todo[0]].label!r} was replaced by others {CONTENTION} times meanwhile"
        )

    async def _schedule_once(self, batch: list[tuple[Request, str, bool]]) -> list[list[str]]:
        """Each request with the member that it finds, and whether its own must not be compact."""
        while True:
            answers = await self._schedule_by(batch)
            if answers[0][0] not in NOTHING_DONE:
                return answers
            self.see_why(answers[0])

    async def _schedule_by(self, batch: list[tuple[Request, str, bool]]) -> list[list[str]]:
        k = self.keys
        keys = [
            k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.pacers, k.namespace,
            k.answer(call_of([each for each, *_ in batch]) or new_token()), k.templates, k.used,
        ]  # fmt: skip
        args: list[Any] = []
        own: list[tuple[str, str]] = []
        templates = []
        for request, expected, plain in batch:
            stored, record = request.stored, b""
            parts = self.templates.split(stored) if stored is not None else None
            new = None
            if not (plain or request.name or (stored is not None and parts is None)):
                new = compact_member(request.id)
            new = new or member(new_token(), request.label)
            if stored is not None and parts is not None:
                templates.append(parts[0])
                record = stored.encode_split(new, *parts)
            elif stored is not None:
                record = stored.encode()
            own.append((new, request.id))
            keys += [k.trigger(new), k.trigger(expected or new)]
            args += [request.mode, request.when, handle(new), request.name or "", request.id]
            args += [uuid_of(request.id), handle(expected), record]
            args.append("" if request.max_wait is None else request.max_wait)
        brought = self.templates.brought(templates)
        remember = KEEP_MS if batch[0][0].token else REMEMBER_MS
        fixed = [self.owner, remember, k.wake, LATEST, self.shards]
        with self._translated():
            answers = await self._run_schedule([each for each, *_ in batch], keys, [*fixed, *brought, *args])
        told = [_told(answer, *each) for answer, each in zip(answers, own, strict=False)]
        if told[0][0] not in NOTHING_DONE:
            self.templates.stored(brought)
        return told

    async def find(self, target: str, *, by_name: bool = True) -> str | None:
        """The member for a name (unless `by_name` is False), else for a task id, or None."""
        k, place = self.keys, place_of(target)
        commands: list[tuple[Any, ...]] = [
            ("HMGET", k.names, target if by_name else ""),
            ("HMGET", k.ids, target),
        ]
        if place is not None:
            commands += [("HMGET", k.timers, place), ("ZSCORE", k.dead, place)]
        with self._translated():
            [named], [known], *own = await self.link.pipeline(commands)
        found = named or known
        if not found and own and own[1] is None:
            found = found_at(target, own[0][0])
        return member_of(found) if found else None

    async def wait_for_replicas(self, count: int, timeout: float) -> int:
        """Wait until so many replicas have what was stored here until now; returns how many do.

        WAIT is about the writes of its own connection: one that comes later than those that it is asked about
        covers them.

        Arguments:
            timeout: seconds.
        """
        with self._translated():
            answers = await self.link.pipeline(
                [
                    ("SET", self.keys.answer(new_token()), "", "PX", 1),
                    ("WAIT", count, int(timeout * 1000)),
                ],
                at=self.keys.namespace,
            )
            return int(answers[-1])

    async def inspect(self, found: str) -> Timer | None:
        """The timer of this member, or None once its message is in the broker."""
        k = self.keys
        with self._translated():
            answer = await self.link.call(
                "inspect",
                keys=[k.due, k.timers, k.parked, k.claimed, k.claims, k.trigger(found)],
                args=[handle(found)],
            )
            now, state, due, ttl, record = answer
            if state == b"gone":
                return None
            [stored] = await self.templates.decoded([(found, record)])
        return self._timer(found, state.decode(), as_ms(due), int(ttl), int(now), stored)

    async def cancel(self, members: Sequence[str], token: str) -> list[tuple[str, str]]:
        """Forget those of these timers that wait: for each `cancelled` and its task id, `claimed`, or `gone`.

        Arguments:
            token: of this call; a repetition with the same one gets the same answer.
        """
        if not members:
            return []
        k = self.keys
        with self._translated():
            answers = await self.link.call(
                "cancel",
                keys=[
                    *(k.due, k.timers, k.names, k.ids, k.parked, k.claimed, k.claims, k.answer(token)),
                    *(k.namespace, *map(k.trigger, members)),
                ],
                args=[REMEMBER_MS, self.shards, *map(handle, members)],
            )
        outcomes = [text(answer).partition(":")[::2] for answer in answers]
        if outcomes[0][0] not in ("cancelled", "claimed", "gone"):
            raise self.recut(outcomes[0][0])
        # a damaged message has lost its task id
        return [
            (outcome, id or label_of(member)) for (outcome, id), member in zip(outcomes, members, strict=True)
        ]

    async def finish(self, label: str, id: str) -> bool:
        """The task of an occurrence has ended: the next one need not wait for it. False if none awaits it.

        Arguments:
            label: of its recurring timer.
            id: the task id.
        """
        with self._translated():
            answer = await self.link.call("finish", keys=[self.keys.running(label)], args=[id])
        return bool(answer)

    async def tell_of_key_timer(self, member: str) -> None:
        """Tell who watches keys of a new timer for one; without the right to publish they find it later."""
        with self._translated():
            await self.link.execute("PUBLISH", self.keys.wake, f"?{member}")

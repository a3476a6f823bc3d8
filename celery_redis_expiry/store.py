"""The timers in Redis: the only module that speaks to it for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from kombu.utils.json import dumps, loads
from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Location, locate
from celery_redis_expiry.errors import (
    InvalidTimer,
    NamespaceTaken,
    NotConfigured,
    StoreFull,
    StoreUnavailable,
)
from celery_redis_expiry.keys import Keys, label_of, member, new_token
from celery_redis_expiry.scripts import Scripts
from celery_redis_expiry.settings import NAMESPACE, Settings
from celery_redis_expiry.timer import (
    FORMAT,
    LATEST,
    Claimed,
    DeadLetter,
    Outcome,
    Request,
    Stored,
    Timer,
    Undecodable,
    as_datetime,
)

logger = logging.getLogger(__name__)

#: How long the answer of a changing call is remembered, for its repetition after a lost reply.
REMEMBER_MS = 60_000
#: How often at least each parked timer is looked at, and the longest sleep of a pacer.
RECHECK_MS = 60_000
#: A worker that has not announced its next waking for so long is forgotten.
STALE_MS = 300_000
#: A name is replaced by others at every one of so many attempts: something is wrong with the caller.
CONTENTION = 100


@dataclass(frozen=True)
class Look:
    """What a pacer sees: times in ms on Redis's clock, `now` with a fraction.

    Attributes:
        wake: when to look again, as announced.
        lease: when the first lease ends, or None.
        due: (member, due) of what is due, oldest first.
        newest: the same of the newest due, where `due` does not hold all.
        parked: members to look at again.
    """

    now: float
    wake: int
    lease: int | None
    due: list[tuple[str, int]]
    newest: list[tuple[str, int]]
    parked: list[str]


class Store:
    """The timers of one namespace in one Redis.

    Every method raises `StoreUnavailable` when Redis can't be reached or refuses.

    Arguments:
        location: where it is.
        namespace: see `expiry_namespace`.
        owner: the app's main name, recorded in the namespace.
    """

    def __init__(self, location: Location, namespace: str, owner: str) -> None:
        self.location = location
        self.owner = owner
        self.keys = Keys(namespace, location.prefix)
        self._client = location.client()
        self._scripts = Scripts(self._client)

    def enter(self, broker: str, *, adopt: bool = False) -> None:
        """Record whose namespace this is.

        Arguments:
            broker: which broker its messages go to, without credentials.
            adopt: take it over, whoever has it.

        Raises:
            NamespaceTaken: it is another app's or another broker's.
        """
        with self._translated():
            answer = self._scripts.enter(
                keys=[self.keys.namespace], args=[FORMAT, self.owner, broker, int(adopt)]
            )
        version, app, recorded = (value.decode() for value in answer)
        if (app, recorded) != (self.owner, broker):
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} in {self.location.url} belongs to the app {app!r} with "
                f"the broker {recorded}; this is {self.owner!r} with {broker}. Give this app an expiry_namespace of "
                "its own; or, if the app or its broker was moved or renamed on purpose: celery -A … expiry adopt"
            )
        if int(version) > FORMAT:
            raise NamespaceTaken(
                f"the namespace {self.keys.namespace_name!r} has format {version}, this release reads {FORMAT}: upgrade"
            )

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
        at = int(now) + int(ttl) if int(ttl) >= 0 else int(float(due))
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

    def look(self, worker: str, *, limit: int, parked: int) -> Look:
        """Read what is due, and announce when this worker's pacer wakes.

        Arguments:
            worker: the name to announce under.
            limit: how many timers at most; a quarter more of the newest where there are so many.
            parked: how many parked ones at most.
        """
        k = self.keys
        with self._translated():
            now, wake, lease, due, newest, parked_members = self._scripts.look(
                keys=[k.due, k.parked, k.claimed, k.pacers],
                args=[worker, limit, max(1, limit // 4), parked, RECHECK_MS, STALE_MS],
            )
        return Look(
            now=int(now) / 1000,
            wake=int(wake),
            lease=int(float(lease)) if lease else None,
            due=_pairs(due),
            newest=_pairs(newest),
            parked=[value.decode() for value in parked_members],
        )

    def touch(self, members: Sequence[str]) -> int | None:
        """Let due trigger keys expire now; follow those whose TTL was changed.

        Returns:
            The earliest new due time (ms) among those that moved, or None.
        """
        if not members:
            return None
        k = self.keys
        with self._translated():
            answer = self._scripts.touch(
                keys=[k.due, k.parked, *map(k.trigger, members)], args=[RECHECK_MS, *members]
            )
        return int(answer[3]) if answer[3] else None

    def claim(self, members: Sequence[tuple[str, bool]], *, token: str, lease: float) -> list[Claimed]:
        """Take due timers for publishing.

        Arguments:
            members: each with whether an event said that its trigger key expired.
            token: of this claim; a repetition with the same one gets the same timers.
            lease: seconds.
        """
        k = self.keys
        args: list[Any] = [token, int(lease * 1000), RECHECK_MS]
        for name, expired in members:
            args += [name, int(expired)]
        with self._translated():
            _, flat = self._scripts.claim(
                keys=[
                    k.due,
                    k.timers,
                    k.parked,
                    k.claimed,
                    k.claims,
                    *(k.trigger(name) for name, _ in members),
                ],
                args=args,
            )
        claims = []
        for i in range(0, len(flat), 4):
            name = flat[i].decode()
            claims.append(
                Claimed(name, label_of(name), int(flat[i + 1]), int(flat[i + 2]), flat[i + 3], token)
            )
        return claims

    def ack(self, token: str, claims: Sequence[Claimed]) -> int:
        """Forget published timers; returns how many were still this claim's."""
        if not claims:
            return 0
        k = self.keys
        args: list[Any] = [token]
        for claim in claims:
            args += [claim.member, claim.label, claim.id]
        with self._translated():
            return int(self._scripts.ack(keys=[k.timers, k.names, k.ids, k.claimed, k.claims], args=args))

    def release(self, token: str, claims: Sequence[Claimed], *, delay: float = 0, tried: bool = False) -> int:
        """Give claimed timers back.

        Arguments:
            delay: seconds until they may be claimed again.
            tried: whether the message itself was refused (counts as an attempt).
        """
        if not claims:
            return 0
        k = self.keys
        with self._translated():
            return int(
                self._scripts.release(
                    keys=[k.due, k.claimed, k.claims],
                    args=[token, int(delay * 1000), int(tried), *(claim.member for claim in claims)],
                )
            )

    def recover(self, limit: int) -> int:
        """Release what dead workers had claimed; returns how many."""
        k = self.keys
        with self._translated():
            return len(self._scripts.recover(keys=[k.due, k.claimed, k.claims], args=[limit]))

    def bury(self, claim: Claimed, reason: str, origin: str) -> bool:
        """Move a claimed timer to the dead letters, with the reason and the worker that gave it up."""
        k = self.keys
        with self._translated():
            return bool(
                self._scripts.bury(
                    keys=[k.names, k.ids, k.claimed, k.claims, k.dead, k.reasons],
                    args=[
                        claim.token, claim.member, claim.label, claim.id,
                        dumps({"reason": reason, "origin": origin}),
                    ],
                )
            )  # fmt: skip

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """The dead letters, newest first."""
        with self._translated():
            rows = self._client.zrevrange(self.keys.dead, offset, offset + limit - 1, withscores=True)
            reasons = self._client.hmget(self.keys.reasons, [name for name, _ in rows]) if rows else []
        letters = []
        for (name, buried), reason in zip(rows, reasons, strict=True):
            text = loads(reason.decode())["reason"] if reason else "?"
            letters.append(DeadLetter(name.decode(), label_of(name.decode()), as_datetime(int(buried)), text))
        return letters

    def retry(self, letter: DeadLetter) -> bool:
        """Make a dead letter a timer again, due at once; False if there is none."""
        k = self.keys
        with self._translated():
            record = self._client.hget(k.timers, letter.member) or b""
            try:
                id = Stored.decode(record).id
            except Undecodable:
                id = letter.label
            name = letter.label if letter.label != id else ""
            return bool(
                self._scripts.retry(
                    keys=[k.due, k.names, k.ids, k.dead, k.reasons], args=[k.wake, letter.member, name, id]
                )
            )

    def discard(self, letter: DeadLetter) -> bool:
        """Forget a dead letter for good; False if there is none."""
        k = self.keys
        with self._translated():
            return bool(self._scripts.discard(keys=[k.timers, k.dead, k.reasons], args=[letter.member]))

    def counts(self) -> dict[str, int]:
        """How many timers are waiting (parked ones included), claimed, and dead letters."""
        k = self.keys
        with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for key in (k.due, k.parked, k.claimed, k.dead):
                pipe.zcard(key)
            due, parked, claimed, dead = pipe.execute()
        return {"waiting": due + parked, "parked": parked, "claimed": claimed, "dead": dead}

    def withdraw(self, worker: str) -> None:
        """Forget what a stopping worker announced."""
        with self._translated():
            self._client.zrem(self.keys.pacers, worker)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in our words, with the remedy, what redis-py raises."""
        where = self.location.url
        try:
            yield
        except redis_errors.ReadOnlyError as exc:
            raise StoreUnavailable(
                f"{where} is a read-only replica: point the setting at its primary"
            ) from exc
        except redis_errors.AuthenticationError as exc:
            raise StoreUnavailable(f"{where} refused the user or password: {exc}") from exc
        except (redis_errors.ConnectionError, redis_errors.TimeoutError) as exc:
            raise StoreUnavailable(
                f"{where} can't be reached: {exc}; is it running, and the URL right?"
            ) from exc
        except UnicodeEncodeError as exc:
            raise InvalidTimer(f"a name or id is no valid text: {exc}") from exc
        except redis_errors.ResponseError as exc:
            if "OOM " in str(exc):
                raise StoreFull(f"{where} is at its maxmemory, nothing was stored: {exc}") from exc
            if "READONLY" in str(exc):
                raise StoreUnavailable(
                    f"{where} is a read-only replica: point the setting at its primary"
                ) from exc
            raise StoreUnavailable(f"{where} refused a command: {exc}") from exc
        except redis_errors.RedisError as exc:
            raise StoreUnavailable(f"{where}: {exc}") from exc


_stores: WeakKeyDictionary[Any, Store] = WeakKeyDictionary()


def store_of(app: Any) -> Store:
    """The store of a Celery app, made once.

    Raises:
        NotConfigured: no Redis is configured, or a setting is unusable.
    """
    store = _stores.get(app)
    if store is None:
        owner = app.main or "celery"
        namespace = Settings.of(app).namespace or owner
        if not NAMESPACE.fullmatch(namespace):
            raise NotConfigured(
                f"the app's main name {owner!r} can't serve as a namespace: set expiry_namespace to letters, "
                "digits or _ . @ / -"
            )
        store = _stores[app] = Store(locate(app), namespace, owner)
    return store


def _pairs(flat: list[bytes]) -> list[tuple[str, int]]:
    return [(flat[i].decode(), int(float(flat[i + 1]))) for i in range(0, len(flat), 2)]

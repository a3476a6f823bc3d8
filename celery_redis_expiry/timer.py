"""What a timer is: as users see it, as it is asked for, and as it lies in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from kombu.utils.json import dumps, loads

from celery_redis_expiry.errors import ExpiryError, InvalidTimer, TimerExists
from celery_redis_expiry.guard import Guard
from celery_redis_expiry.keys import HANDLE, PLACE, handle, label_of
from celery_redis_expiry.recurring import Plan, Recurring, State
from celery_redis_expiry.template import REF, Parts, Template, split

#: Version of what a namespace holds; a release reads its own and the last one's.
FORMAT = 1
#: Versions of a stored record: one that is whole; with a guard: who knows of none must not fire it; by a
#: template; the same, with the time of a debounce's first call; one that recurs: who knows of none must not
#: fire it, since it is not the message that is sent.
WHOLE, GUARDED, TEMPLATED, STAMPED, RECURRING = 1, 2, 3, 4, 5
#: The first byte of the record of a compact member: by a template, and after it the rest of its handle.
COMPACT = b"\x03"

#: The latest due time, in ms since the epoch: the end of the year 9999, as far as `datetime` goes.
LATEST = 253402300799999


class Undecodable(ExpiryError):
    """A stored record is damaged, or of a release that this one can't read."""


@dataclass(frozen=True)
class Timer:
    """One signature waiting for one expiry, as it was when asked for.

    Attributes:
        id: the task id that the task will run under.
        name: the user's name for it (`key=`), or None.
        task: the name of the task, or of the canvas type.
        due: when it fires, an aware datetime in UTC; None while parked, or waiting for a key.
        remaining: seconds until then, never below 0; None where due is.
        trigger_key: the key in Redis whose TTL is the remaining time.
        state: `waiting` (for its due time, or for a key of the user's own), `parked` (its trigger key has no
            TTL), or `claimed` (being published now).
        args, kwargs: of the task, as Celery tells them in its events and logs; shortened where they are long.
            Of a canvas `args` is its whole signature.
        queue: the queue it will go to, or the routing key where an exchange chooses; None for a canvas.
        priority: of its message, or None.
        unless_exists, only_if_exists: the keys of its guard.
        since: when the first call of a debounce was (`max_wait=`), an aware datetime in UTC; else None.
        watch: the key whose expiry it waits for (`watch=`), or None.
        retries: how often its task was tried before: a retry with a countdown may be a timer.
        every: the schedule of a recurring timer (`every=`), in words; None for one that fires once. What
            follows says nothing of such a one.
        last: when its last occurrence was due, an aware datetime in UTC; None before the first.
        last_id: the task id of that occurrence, "" before the first.
        fired, missed, skipped: how many occurrences it had; how many instants passed while no expiry worker
            ran; how many came while the task of the occurrence before still waited or ran.
    """

    id: str
    name: str | None
    task: str
    due: datetime | None
    remaining: float | None
    trigger_key: str
    state: str
    args: str = ""
    kwargs: str = ""
    queue: str | None = None
    priority: int | None = None
    unless_exists: tuple[str, ...] = ()
    only_if_exists: tuple[str, ...] = ()
    since: datetime | None = None
    watch: str | None = None
    retries: int = 0
    every: str | None = None
    last: datetime | None = None
    last_id: str = ""
    fired: int = 0
    missed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Stored:
    """What is kept of a timer until it fires: everything but its name, due time and generation.

    Attributes:
        id: the task id.
        content: JSON-able: `{"kind": "message" | "canvas", "task": …}` and what `messages` put there.
        guard: what must be so for it to fire, or None.
        since: when the first call of a debounce was, ms since the epoch; written by the script, on Redis's
            clock.
        template: by which it was stored, or None.
        recurring: of one that fires again and again, or None. Its content is that of each occurrence, but for
            what is an occurrence's own.
    """

    id: str
    content: dict[str, Any] = field(repr=False)
    guard: Guard | None = None
    since: int | None = None
    template: Template | None = field(default=None, repr=False, compare=False)
    recurring: Recurring | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """The record that has all of it: `<version>:<length of the id>:<id><JSON>`.

        The id stands in front for the scripts to find. So does what each occurrence changes, up to the end of
        a line, of one that recurs.
        """
        if self.recurring is not None:
            text = dumps({**self.content, "every": self.recurring.plan.encode()})
            return self._head(RECURRING) + self.recurring.state.encode() + b"\n" + str(text).encode()
        content, version = self.content, WHOLE
        if self.guard is not None:
            content, version = {**content, "guard": self.guard.encode()}, GUARDED
        text = str(dumps(content))
        if self.since is not None:
            # as the script would have written it
            text = f'{{"since":{self.since},{text[1:]}'
        return self._head(version) + text.encode()

    def split(self) -> tuple[Template, bytes] | None:
        """Its template, and what differs; None where it must be stored whole."""
        return None if self.guard is not None or self.recurring is not None else split(self.content, self.id)

    def encode_split(self, member: str, template: Template, rest: bytes) -> bytes:
        """The record of a member by a template: `<version>:<length of the id>:<id><template><rest>`."""
        own = handle(member)
        if isinstance(own, bytes):
            return COMPACT + own[PLACE:] + template.ref + rest
        if self.since is not None:
            return self._head(STAMPED) + b"%d," % self.since + template.ref + rest
        return self._head(TEMPLATED) + template.ref + rest

    def _head(self, version: int) -> bytes:
        id = self.id.encode()
        return b"%d:%d:%s" % (version, len(id), id)

    @classmethod
    def decode(
        cls, record: bytes, member: str = "", templates: Mapping[bytes, Template] = MappingProxyType({})
    ) -> Stored:
        """What a stored record says.

        Arguments:
            member: whose it is.
            templates: by their names, see `ref_of`.

        Raises:
            Undecodable: `encode` and `encode_split` of a known format did not write it.
        """
        try:
            version, id, since, body = _parts(record, member)
            if version in (TEMPLATED, STAMPED):
                template = templates.get(body[:REF])
                if template is None:
                    raise Undecodable("the template of the stored message is missing, or damaged")
                return Templated(id, template, template.parts(body[REF:]), since)
            state = b""
            if version == RECURRING:
                state, _, body = body.partition(b"\n")
            content = loads(body.decode())
            if not isinstance(content, dict):
                raise ValueError("not an object")
            if version == RECURRING:
                plan = Plan.decode(content.pop("every"))
                return cls(id, content, recurring=Recurring(plan, State.decode(state)))
            guard = content.pop("guard", None)
            since = content.pop("since", None)
            return cls(
                id,
                content,
                Guard.decode(guard) if version == GUARDED else None,
                as_ms(since) if isinstance(since, int) else None,
            )
        except Undecodable:
            raise
        except Exception as exc:
            raise Undecodable(f"the stored message is damaged: {exc!r}") from exc


class Templated(Stored):
    """A stored message that was read by its template; its content is made for who asks.

    Attributes:
        template: by which it was stored.
        parts: what it has of its own.
    """

    template: Template
    parts: Parts

    def __init__(self, id: str, template: Template, parts: Parts, since: int | None = None) -> None:
        # the content stays away: `content` below makes it
        self.__dict__.update(id=id, guard=None, since=since, template=template, parts=parts)

    @cached_property
    def content(self) -> dict[str, Any]:
        return self.template.whole(self.parts, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and Stored(self.id, self.content, None, self.since) == Stored(
            other.id, other.content, other.guard, other.since
        )

    __hash__ = Stored.__hash__


def split_record(record: bytes, member: str) -> tuple[str, bytes, bytes] | None:
    """Task id, the name of the template, and the rest of a stored record; None where it has no template, or
    is damaged."""
    if record.startswith(COMPACT):
        start = len(COMPACT) + HANDLE - PLACE
        return label_of(member), record[start : start + REF], record[start + REF :]
    try:
        version, id, _, body = _parts(record, member)
    except Exception:
        return None
    return (id, body[:REF], body[REF:]) if version in (TEMPLATED, STAMPED) else None


def ref_of(record: bytes) -> bytes | None:
    """The name of the template that a stored record has; None where it has none, or is damaged."""
    found = split_record(record, "")
    return None if found is None else found[1]


def _parts(record: bytes, member: str) -> tuple[int, str, int | None, bytes]:
    """Version, task id, first call of a debounce, and the rest of a stored record."""
    if record.startswith(COMPACT):
        return TEMPLATED, label_of(member), None, record[len(COMPACT) + HANDLE - PLACE :]
    number, length, rest = record.split(b":", 2)
    version = int(number)
    if version not in (WHOLE, GUARDED, TEMPLATED, STAMPED, RECURRING):
        raise Undecodable(
            f"the stored message has format {version}, this release reads {WHOLE} to {RECURRING}: "
            "upgrade the expiry worker, then retry the dead letter"
        )
    id, body = rest[: int(length)].decode(), rest[int(length) :]
    if version != STAMPED:
        return version, id, None, body
    since, _, body = body.partition(b",")
    return version, id, as_ms(since), body


@dataclass(frozen=True)
class Lying:
    """Where a message lies in a Redis broker.

    Attributes:
        message: exactly as it lies there.
        queue: the key of its queue.
        unacked, unacked_index: the keys of what consumers hold.
        first, last: the places in the queue among which it is looked for, counted from the end at which
            consumers take: -1 is the next one.
        tag: its delivery tag where it is unacknowledged, "" where it lies in the queue.
    """

    message: bytes = field(repr=False)
    queue: str
    unacked: str
    unacked_index: str
    first: int = -1
    last: int = -1
    tag: str = ""


class Request(NamedTuple):
    """One call of `schedule_on_expiry`, checked, ready for the store.

    Attributes:
        stored: what to keep; None for a reschedule, which keeps what is there.
        when: `+ms` from now, on Redis's clock, or `=ms` since the epoch.
        mode: `replace`, `keep`, `extend`, `raise`, `move`, or `fire`: to move only what waits.
        name: the user's name, or None.
        id: the task id.
        max_wait: ms from the first call of a debounce for which its further calls may put the timer off, or
            None.
        lying: its message in the database of the timers, which is to go in the script that stores the timer;
            in one call all lie in one queue, among the same places. None for all others.
        token: of the call, the same for all of its requests; who repeats the very call, a week later at the
            latest, gets the first answer. "" for a call that is repeated after a lost reply only.
        only: the member of the timer that it may replace, another is kept; None for whichever has the name.
    """

    stored: Stored | None
    when: str
    mode: str
    name: str | None
    id: str
    max_wait: int | None = None
    lying: Lying | None = None
    token: str = ""
    only: str | None = None

    @property
    def label(self) -> str:
        return self.name or self.id


class Outcome(NamedTuple):
    """What the store answered to a request.

    Attributes:
        status: scheduled, kept, extended, exists, missing, claimed or late; gone, where its message did not
            lie there any more.
        due: ms since the epoch.
        member: the member of the timer that now has the label.
        id: the task id of that timer.
        replaced: the task id of the timer that made way for it; "" for none.
    """

    status: str
    due: int
    member: str
    id: str
    replaced: str = ""

    def raise_for_status(self) -> None:
        """Raise `TimerExists` or `InvalidTimer` where nothing was stored for one of these reasons."""
        if self.status == "exists":
            raise TimerExists(
                f"the timer {label_of(self.member)!r} waits already, due {as_datetime(self.due)}: "
                "reschedule or cancel it, or choose another if_exists (or task id)"
            )
        if self.status == "late":
            raise InvalidTimer("the timer would be due after the year 9999: choose an earlier time")


@dataclass
class Claimed:
    """A timer that this worker has claimed.

    Attributes:
        member, label: see `keys`.
        due: ms since the epoch.
        attempts: how often its message was refused before.
        stored: what is stored of it, or why that can't be told.
        token: of the claim.
        id: the task id; the label where the stored message is damaged.
        shard: the number of its shard.
        by_event: whether an event told that it is due; else only the index did.
        due_local: when it was due on this process's monotonic clock, s: what its lateness counts from.
        problem: why its guard can't be read, or "": then it must wait until that can be.
        handle: the member as calls of scripts have it, see `keys`.
    """

    member: str
    label: str
    due: int
    attempts: int
    stored: Stored | Undecodable = field(repr=False)
    token: str = ""
    id: str = ""
    shard: int = 0
    by_event: bool = False
    due_local: float = field(default=0.0, compare=False)
    problem: str = ""
    handle: str | bytes = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        self.handle = self.handle or handle(self.member)


@dataclass(frozen=True)
class Lain:
    """A timer or dead letter as it lies in Redis: all there is to put it elsewhere.

    Attributes:
        member: see `keys`.
        id: the task id.
        home: the sorted set that it lies in: `due`, `parked` or `dead`.
        score: in it, ms since the epoch.
        expiry: of its trigger key, ms since the epoch; `-` for a key without TTL, empty for no key.
        named, known: whether its name, its task id, means this very one.
        record: the stored record.
        claim: what is known of its attempts, see `keys`; empty if there were none.
        reason: of a dead letter, as it lies in Redis.
    """

    member: str
    id: str
    home: str
    score: int
    expiry: str
    named: bool
    known: bool
    record: bytes = field(repr=False)
    claim: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DeadLetter:
    """A timer that can't be published, kept with its reason.

    Attributes:
        member: which one, for `retry` and `discard`.
        label: its name, else its task id.
        buried: when it was given up, aware, UTC.
        reason: why.
        origin: the worker that gave it up.
        shard: the number of its shard.
        id: the task id.
        task: the name of the task, or of the canvas type; "?" where the stored message is damaged.
    """

    member: str
    label: str
    buried: datetime
    reason: str
    origin: str = ""
    shard: int = 0
    id: str = ""
    task: str = "?"


def as_datetime(ms: int) -> datetime:
    """An aware datetime in UTC for ms since the epoch."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def as_ms(score: str | bytes | float) -> int:
    """A score of a sorted set as ms since the epoch; other clients may have set any, infinite ones too."""
    return int(max(0.0, min(float(score), LATEST)))


def shown(text: str) -> str:
    """Text of any origin, fit for a log or a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

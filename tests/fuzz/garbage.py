"""Damage to what is stored of one timer: random bytes, and values that are nearly right.

Each kind of damage is a value with a name, so that a failure tells which it was.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import redis
from hypothesis import strategies as st

from celery_redis_expiry.template import Template
from celery_redis_expiry.timer import Stored

#: Scores of a sorted set that no clock says: never to come, or long gone.
NEVER = ["inf", "1e300", "1e16", "253402300800000"]
GONE = ["-inf", "-1e300", "-5", "0", "0.5", "-0"]
SCORES = NEVER + GONE
TEXTS = [
    "",
    "x",
    ":",
    "a:b:c",
    "\x00",
    "\x1fprobe",
    "{}",
    "[]",
    "null",
    "-1",
    "9" * 400,
    "inf",
    "nan",
    "ü" * 300,
]
BYTES = [text.encode() for text in TEXTS] + [
    b"\xff\xfe",
    b"a:\xff",
    b"\xc3\x28:x",
    b"\xed\xa0\x80",
    b"y" * 20_000,
]
raw = st.one_of(st.sampled_from(BYTES), st.binary(max_size=60))

#: JSON values that are in place nowhere, or nearly.
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, -(10**400), float("nan"), float("inf"),
    "", "x", "\x00", "\ud800", "ü" * 300, "9" * 400,
    [], {}, [[]], [None], {"a": None}, {"": {}}, ["celery", 5, None], {"queue": {}}, {"exchange": {}},
    {"queue": {"name": 5}}, {"exchange": "x"}, {"exchange": {"name": "x", "type": "nosuch"}},
    {"queue": {"name": "odd", "exchange": {"name": "odd", "type": "nosuch"}, "bindings": [{}]}},
    {"__type__": "datetime", "__value__": "never"},
    {"__type__": "uuid", "__value__": {"hex": "z", "version": 9}},
    {"__type__": "bytes", "__value__": "x"}, {"__type__": "nosuch", "__value__": 1}, {"__type__": 5},
]  # fmt: skip
odd = st.one_of(
    st.sampled_from(ODD),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
)


@dataclass(frozen=True)
class Victim:
    """A stored timer, and how to reach what is stored of it."""

    client: redis.Redis  # answers bytes
    base: str
    member: bytes
    name: str
    id: str

    def key(self, name: str) -> str:
        return self.base + name

    def stored(self) -> Stored:
        record = self.client.hget(self.key("timers"), self.member) or b""
        texts = self.client.hvals(self.key("templates"))
        templates = {each.ref: each for each in map(Template.read, texts)}
        return Stored.decode(record, self.member.decode(), templates)

    @property
    def trigger(self) -> bytes:
        return self.key("trigger:").encode() + self.member


@dataclass(frozen=True)
class Damage:
    """What is wrong with a timer. `dead`: it must end as a dead letter; else it may fire too."""

    dead = False

    def apply(self, victim: Victim) -> None:
        raise NotImplementedError

    def harmed(self, victim: Victim) -> bytes:
        """The member that it concerns."""
        return victim.member

    def fall_due(self, victim: Victim, ms: int) -> None:
        """Let it be due at this time; the trigger key, if it is one still, expires then."""
        victim.client.zadd(victim.key("due"), {victim.member: ms}, xx=True)
        victim.client.pexpireat(victim.trigger, ms)


@dataclass(frozen=True)
class Record(Damage):
    """The stored message is something else; None: it is missing."""

    value: bytes | None
    dead = True

    def apply(self, victim: Victim) -> None:
        if self.value is None:
            victim.client.hdel(victim.key("timers"), victim.member)
        else:
            victim.client.hset(victim.key("timers"), victim.member, self.value)


@dataclass(frozen=True)
class Prefix(Damage):
    """Another format or length in front of the true message."""

    front: bytes
    dead = True

    def apply(self, victim: Victim) -> None:
        record = victim.client.hget(victim.key("timers"), victim.member) or b""
        victim.client.hset(victim.key("timers"), victim.member, self.front + record.split(b":", 2)[2])


@dataclass(frozen=True)
class Truncated(Damage):
    """By a template a message may be whole JSON without its end."""

    part: float

    def apply(self, victim: Victim) -> None:
        record = victim.client.hget(victim.key("timers"), victim.member) or b""
        victim.client.hset(victim.key("timers"), victim.member, record[: int(self.part * (len(record) - 1))])


@dataclass(frozen=True)
class Mutated(Damage):
    """The true message with one part of its JSON replaced, or gone."""

    choice: int
    value: Any
    gone: bool

    def apply(self, victim: Victim) -> None:
        stored = victim.stored()
        content = copy.deepcopy(stored.content)
        places = list(_places(content))
        container, index = places[self.choice % len(places)]
        if self.gone:
            del container[index]
        else:
            container[index] = self.value
        victim.client.hset(victim.key("timers"), victim.member, _record(stored.id, content))


@dataclass(frozen=True)
class Part(Damage):
    """One part of the true message is another: a field of it, or an argument of kombu's `publish`."""

    name: str
    value: Any

    @property
    def dead(self) -> bool:  # type: ignore[override]
        return self.name == "kind"

    def apply(self, victim: Victim) -> None:
        stored = victim.stored()
        content = copy.deepcopy(stored.content)
        (content if self.name in content else content["arguments"])[self.name] = self.value
        victim.client.hset(victim.key("timers"), victim.member, _record(stored.id, content))


def _record(id: str, content: Any) -> bytes:
    return b"1:%d:%s%s" % (len(id.encode()), id.encode(), json.dumps(content).encode())


def _places(value: Any) -> Any:
    """Every (container, index) in nested JSON."""
    indexes = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for index in indexes:
        yield value, index
        yield from _places(value[index])


@dataclass(frozen=True)
class Field(Damage):
    """A field of a hash beside the message: its name, its id, its claim; None: it is missing."""

    hash: str
    value: bytes | None

    def apply(self, victim: Victim) -> None:
        field = {"names": victim.name, "ids": victim.id, "claims": victim.member}[self.hash]
        if self.value is None:
            victim.client.hdel(victim.key(self.hash), field)
        else:
            victim.client.hset(victim.key(self.hash), field, self.value)


@dataclass(frozen=True)
class Score(Damage):
    """Its due time is no time."""

    score: str

    def apply(self, victim: Victim) -> None:
        victim.client.zadd(victim.key("due"), {victim.member: self.score})
        victim.client.delete(victim.trigger)

    def fall_due(self, victim: Victim, ms: int) -> None:
        pass


@dataclass(frozen=True)
class Home(Damage):
    """It lies in another sorted set, under whatever score, with whatever claim."""

    key: str
    score: str
    claim: bytes | None
    also_due: bool

    def apply(self, victim: Victim) -> None:
        if not self.also_due:
            victim.client.zrem(victim.key("due"), victim.member)
        victim.client.zadd(victim.key(self.key), {victim.member: self.score})
        if self.claim is not None:
            victim.client.hset(victim.key("claims"), victim.member, self.claim)


@dataclass(frozen=True)
class Trigger(Damage):
    """Its trigger key is of another type, or holds something."""

    kind: str

    def apply(self, victim: Victim) -> None:
        ttl = victim.client.pttl(victim.trigger)
        victim.client.delete(victim.trigger)
        if self.kind == "list":
            victim.client.rpush(victim.trigger, "x")
        elif self.kind == "hash":
            victim.client.hset(victim.trigger, "x", "y")
        elif self.kind == "value":
            victim.client.set(victim.trigger, b"\xff" * 1000)
        if self.kind != "gone":
            victim.client.pexpire(victim.trigger, max(1, ttl))


@dataclass(frozen=True)
class Stray(Damage):
    """A member that no scheduling made, in the due index beside it; with a message it is as good as any."""

    member: bytes
    with_record: bool

    @property
    def dead(self) -> bool:  # type: ignore[override]
        return not self.with_record

    def harmed(self, victim: Victim) -> bytes:
        # what fires must be another each time: a worker remembers what it has published
        return self.member + victim.member if self.with_record else self.member

    def apply(self, victim: Victim) -> None:
        if self.with_record:
            record = victim.client.hget(victim.key("timers"), victim.member) or b""
            victim.client.hset(victim.key("timers"), self.harmed(victim), record)
        victim.client.zadd(victim.key("due"), {self.harmed(victim): 1})

    def fall_due(self, victim: Victim, ms: int) -> None:
        pass


@dataclass(frozen=True)
class Beside(Damage):
    """Garbage in what belongs to no timer: reasons, dead letters, pacers, pointers, claims."""

    key: str
    field: bytes
    value: bytes
    score: str

    def apply(self, victim: Victim) -> None:
        if self.key in ("dead", "pacers"):
            victim.client.zadd(victim.key(self.key), {self.field: self.score})
            victim.client.hset(victim.key("reasons"), self.field, self.value)
        else:
            victim.client.hset(victim.key(self.key), self.field, self.value)

    def fall_due(self, victim: Victim, ms: int) -> None:
        pass


PARTS = ["kind", "task", "body", "declare", "arguments", "expires", "routing_key", "exchange", "priority"]
PARTS += ["delivery_mode", "mandatory", "immediate", "content_type", "content_encoding", "serializer"]
PARTS += ["headers", "compression", "retry", "retry_policy", "expiration", "timeout", "correlation_id"]
PARTS += ["reply_to", "self", "message_id", "type", "user_id", "delivery_info", "channel", "other"]
CLAIMS = [
    b"", b"-", b"::", b"-::", b"-:x:0", b"-:-5:0", b"-:5:", b"-:5:-1", b"-:inf:0",
    b"-:" + b"9" * 400 + b":0", b"-:5:" + b"9" * 400, b"-:99999999999999999:0",
    b"tok:1:1", b"\xff:1:0", b"-:1:0:0", b"-: 1:0", b"-:1.5:0",
]  # fmt: skip
claims = st.one_of(st.sampled_from(CLAIMS), raw)
optional = st.one_of(st.none(), raw)

records = st.one_of(
    st.builds(Record, st.one_of(st.none(), raw)),
    st.builds(
        Prefix,
        st.sampled_from(
            [b"0:36:", b"2:36:", b"99:36:", b"-1:36:", b"1:0:", b"1:-1:", b"1:35:", b"1:37:", b"1:99999:",
             b"1:" + b"9" * 400 + b":", b"x:36:", b"1:x:", b"1::", b":36:", b"", b"\xff:36:", b"1:36:\xff"]
        ),
    ),
    st.builds(Truncated, st.floats(0, 1)),
    st.builds(
        Record,
        st.sampled_from(
            [b"1:1:x" + json for json in
             (b"", b"{", b"[]", b"null", b"5", b'"x"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff",
              b"9" * 5000, b"{}", b'{"kind": "message"}', b'{"kind": "canvas"}', b'{"kind": "else"}',
              b'{"kind": ["message"]}')]
        ),
    ),
)  # fmt: skip
damages = st.one_of(
    records,
    st.builds(Mutated, st.integers(0, 1000), odd, st.booleans()),
    st.builds(Mutated, st.integers(0, 1000), odd, st.booleans()),
    st.builds(Part, st.sampled_from(PARTS), odd),
    st.builds(Field, st.sampled_from(["names", "ids"]), optional),
    st.builds(Field, st.just("claims"), claims),
    st.builds(Score, st.sampled_from(SCORES)),
    st.builds(
        Home,
        st.sampled_from(["claimed", "parked"]),
        st.sampled_from(
            [score for score in SCORES if score not in ("inf", "1e300", "1e16", "253402300800000")]
        ),
        st.one_of(st.none(), claims),
        st.booleans(),
    ),
    st.builds(Trigger, st.sampled_from(["list", "hash", "value", "gone"])),
    st.builds(Stray, raw, st.booleans()),
    st.builds(
        Beside,
        st.sampled_from(["dead", "pacers", "names", "ids", "claims", "reasons", "timers"]),
        raw,
        raw,
        st.sampled_from(SCORES),
    ),
)

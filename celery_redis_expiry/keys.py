"""Every key of the package in Redis: name, type, meaning. No other module builds a key.

A namespace is cut into shards. All keys of a shard share the hash tag `{expiry.<namespace>.<shard>}`, so
that one script may touch them on a Redis Cluster too. A *member* is `<generation>:<label>`: one scheduling of
the timer that users know by its label (the name they gave it, else its task id). The trigger key has it.

In the sorted sets and hashes a member stands as it is, unless it is *compact*: without a name, its task id a
UUID, its generation short. Such a one has there but the first bytes of its id, its *place*: a hundred bytes
less for each timer. The rest of its id and its generation stand at the beginning of its stored message, and
calls of scripts have all of it, as bytes: its *handle*.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from binascii import a2b_base64, b2a_base64

#: The first byte of a compact member's handle and place: no generation starts with it.
COMPACT = b"\x01"
#: How many bytes of a handle are the place.
PLACE = 12
#: How many bytes, and characters, the generation of a compact member has: it tells those of one id apart.
SHORT, SHORT_TEXT = 4, 6
#: How many bytes a handle has.
HANDLE = len(COMPACT) + 16 + SHORT
_TO_URLSAFE, _FROM_URLSAFE = bytes.maketrans(b"+/", b"-_"), str.maketrans("-_", "+/")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What a compact member looks like in the name of a trigger key, and how many bytes it has there.
COMPACT_MEMBER = rb"[0-9A-Za-z_-]{6}:[0-9a-f-]{36}"
COMPACT_LENGTH = SHORT_TEXT + 1 + 36

#: A label that no timer can have, for its control character: the worker proves with it that events arrive.
PROBE = "\x1fprobe"


class Keys:
    """The keys of one shard of a namespace.

    Arguments:
        namespace: see the setting `expiry_namespace`.
        prefix: what stands before every key (the broker's `global_keyprefix`).
        shard: its number, from 0.
    """

    def __init__(self, namespace: str, prefix: str = "", shard: int = 0) -> None:
        self.namespace_name = namespace
        self.shard = shard
        self.base = base = f"{prefix}{{expiry.{namespace}.{shard}}}:"
        #: hash: format, app, broker, shards; whose timers these are, and into how many shards they are cut
        self.namespace = base + "namespace"
        #: sorted set: member → due, ms; the due index
        self.due = base + "due"
        #: sorted set: member → when to look at it again, ms; timers whose trigger key has no TTL
        self.parked = base + "parked"
        #: hash: member → stored message
        self.timers = base + "timers"
        #: hash: name of a template → its text (see `template`)
        self.templates = base + "templates"
        #: sorted set: name of a template → when a message was stored by it last, ms
        self.used = base + "used"
        #: hash: name → member of its newest generation
        self.names = base + "names"
        #: hash: task id → member of its newest generation
        self.ids = base + "ids"
        #: sorted set: member → end of its lease, ms
        self.claimed = base + "claimed"
        #: hash: member → "token:due:attempts"; the token is "-" while nobody has it claimed; ":?" at the end
        #: where the broker may have the message already, and nobody knows
        self.claims = base + "claims"
        #: sorted set: member → when it was buried, ms; the dead letters
        self.dead = base + "dead"
        #: hash: member → why it was buried
        self.reasons = base + "reasons"
        #: sorted set: expiry worker → the time it announced to wake, ms
        self.pacers = base + "pacers"
        #: channel: a due time (ms) that is earlier than announced, or "!" and a member that is due at once,
        #: or "?" and one that waits for a user's key
        self.wake = base + "wake"
        #: hash: name of an entry of beat_schedule that became a timer → nothing; in the first shard
        self.beat = base + "beat"
        self._trigger = base + "trigger:"
        self._running = base + "running:"
        self._watched = base + "watched:"
        self._values = base + "values:"
        self._leader = base + "leader:"
        self._answer = base + "answer:"

    def trigger(self, member: str) -> str:
        """String with a TTL, one a timer: its expiry fires the timer."""
        return self._trigger + member

    def answer(self, token: str) -> str:
        """String with a TTL of a minute: what a changing call answered, for its repetition."""
        return self._answer + token

    def running(self, label: str) -> str:
        """String with a TTL: task id of the occurrence of a recurring timer whose task waits or runs."""
        return self._running + label

    def watched(self, watch: str) -> str:
        """Sorted set: a user's key → when it expires, ms; the ledger of a watch. In the first shard."""
        return self._watched + watch

    def values(self, watch: str) -> str:
        """Hash: a user's key → snapshot of its value, where a handler of the watch asks for values."""
        return self._values + watch

    def leader(self, watch: str) -> str:
        """String with a TTL of seconds: the token of the worker that delivers for a watch."""
        return self._leader + watch


def is_ours(key: str) -> bool:
    """Whether a key is one of the package's own, of whatever namespace and prefix."""
    return re.search(r"\{expiry\..+\.[0-9]+\}:", key) is not None


class Channels:
    """The channels of all shards of a namespace: what a listener subscribes to, and reads.

    Arguments:
        shards: how many there are.
        database: whose keyspace events are meant.
    """

    def __init__(self, namespace: str, prefix: str, shards: int, database: int) -> None:
        self._events = f"__keyspace@{database}__:"
        self._shards = shards
        before, after = f"{prefix}{{expiry.{namespace}.", "}:"
        # with one shard the patterns name it: a server then compares no more than it must
        number = "0" if shards == 1 else "[0-9]*"
        place = _escaped(before) + number + after
        #: pattern of the expired events of all trigger keys
        self.events = f"{self._events}{place}trigger:*"
        #: pattern of the keys
        self.keys = f"{place}*"
        #: pattern of the wake channels
        self.wake = f"{place}wake"
        #: both
        self.patterns = (self.wake, self.events)
        #: what stands before the member in the channels of those events; "" where there are several shards
        self.only = f"{self._events}{before}0{after}trigger:" if shards == 1 else ""
        self._read = re.compile(
            f"(?:({re.escape(self._events)}))?{re.escape(before)}([0-9]+){re.escape(after)}(?:trigger:(.*)|wake)",
            re.DOTALL,
        )

    def read(self, channel: str) -> tuple[int, str | None] | None:
        """What a channel tells of: the shard, and the member if it is an event; None if it is not ours.

        The pattern of the namespace `shop` also matches what another namespace called `shop.1` publishes.
        """
        found = self._read.fullmatch(channel)
        if found is None or (found[1] is None) != (found[3] is None) or int(found[2]) >= self._shards:
            return None
        return int(found[2]), found[3]


def shard_of(label: str, shards: int) -> int:
    """The shard in which the timer with this label lies. Stored data depends on it: it never changes."""
    return zlib.crc32(label.encode(errors="surrogatepass")) % shards


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def new_token() -> str:
    """A generation, or the token of a claim or call: 72 random bits, no colon in it."""
    return secrets.token_urlsafe(9)


def new_id() -> str:
    """A task id as Celery makes it, a UUID of version 4, in a third of the time."""
    drawn = bytearray(os.urandom(16))
    drawn[6] = drawn[6] & 0x0F | 0x40
    drawn[8] = drawn[8] & 0x3F | 0x80
    return _as_uuid(drawn.hex())


def _as_uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def member(generation: str, label: str) -> str:
    """The member for one scheduling of the timer with this label."""
    return f"{generation}:{label}"


def compact_member(id: str) -> str | None:
    """The compact member for one scheduling of the timer with this task id; None where it has none."""
    found = compact(id, os.urandom(SHORT))
    return None if found is None else found[0]


def generations(count: int) -> list[bytes]:
    """New ones of compact members."""
    drawn = os.urandom(SHORT * count)
    return [drawn[first : first + SHORT] for first in range(0, len(drawn), SHORT)]


def compact(id: str, generation: bytes) -> tuple[str, bytes] | None:
    """The compact member for one scheduling of the timer with this task id, and its handle.

    None where it has none.
    """
    if not _UUID.fullmatch(id):
        return None
    return f"{_generation_text(generation)}:{id}", COMPACT + bytes.fromhex(id.replace("-", "")) + generation


def _generation_text(generation: bytes) -> str:
    return b2a_base64(generation)[:SHORT_TEXT].translate(_TO_URLSAFE).decode()


def handle(member: str) -> str | bytes:
    """A member as calls of scripts have it."""
    if member.find(":") != SHORT_TEXT or not _UUID.fullmatch(member, SHORT_TEXT + 1):
        return member
    try:
        generation = a2b_base64(member[:SHORT_TEXT].translate(_FROM_URLSAFE) + "==")
    except ValueError:
        return member
    return COMPACT + bytes.fromhex(member[SHORT_TEXT + 1 :].replace("-", "")) + generation


def place(member: str) -> str | bytes:
    """A member as it stands in sorted sets and hashes."""
    found = handle(member)
    return found[:PLACE] if isinstance(found, bytes) else found


def uuid_of(id: str) -> bytes:
    """The first bytes of a compact member with this task id, all but the generation; empty if it has none."""
    return COMPACT + bytes.fromhex(id.replace("-", "")) if _UUID.fullmatch(id) else b""


def place_of(id: str) -> bytes | None:
    """Where a compact member with this task id would stand."""
    return uuid_of(id)[:PLACE] or None


def found_at(id: str, record: bytes | None) -> bytes | None:
    """The handle of the compact member with this task id, by the stored message that lies at its place."""
    own = uuid_of(id)
    # what is damaged has lost the rest of its id
    if not record or (record[0] == 3 and record[1 : 1 + len(own) - PLACE] != own[PLACE:]):
        return None
    return own[:PLACE] + record[1 : 1 + HANDLE - PLACE]


def member_of(raw: bytes) -> str:
    """A member, by its handle."""
    if len(raw) != HANDLE or not raw.startswith(COMPACT):
        return text(raw)
    # in one piece: each timer that fires comes by here
    id, generation = raw[1:-SHORT].hex(), b2a_base64(raw[-SHORT:])[:SHORT_TEXT].translate(_TO_URLSAFE)
    return f"{generation.decode()}:{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"


def text(raw: bytes) -> str:
    """A member or the like as Redis has it. What is no UTF-8 goes back to Redis as the same bytes."""
    return raw.decode(errors="surrogateescape")


def label_of(member: str) -> str:
    """The user's name for the timer, else its task id."""
    return member.partition(":")[2]

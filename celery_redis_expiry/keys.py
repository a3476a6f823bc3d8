"""Every key of the package in Redis: name, type, meaning. No other module builds a key.

All keys of a timer share the hash tag `{expiry.<namespace>.<shard>}`, so that one script may touch them on
a Redis Cluster too. A *member* is `<generation>:<label>`: one scheduling of the timer that users know by
its label (the name they gave it, else its task id). Members stand in the index and in the trigger key.
"""

from __future__ import annotations

import re
import secrets

#: A label that no timer can have, for its control character: the worker proves with it that events arrive.
PROBE = "\x1fprobe"


class Keys:
    """The keys of one namespace.

    Arguments:
        namespace: see the setting `expiry_namespace`.
        prefix: what stands before every key (the broker's `global_keyprefix`).
    """

    def __init__(self, namespace: str, prefix: str = "") -> None:
        self.namespace_name = namespace
        self.base = base = f"{prefix}{{expiry.{namespace}.0}}:"
        #: hash: format, app, broker; whose timers these are
        self.namespace = base + "namespace"
        #: sorted set: member → due, ms; the due index
        self.due = base + "due"
        #: sorted set: member → when to look at it again, ms; timers whose trigger key has no TTL
        self.parked = base + "parked"
        #: hash: member → stored message
        self.timers = base + "timers"
        #: hash: name → member of its newest generation
        self.names = base + "names"
        #: hash: task id → member of its newest generation
        self.ids = base + "ids"
        #: sorted set: member → end of its lease, ms
        self.claimed = base + "claimed"
        #: hash: member → "token:due:attempts"; the token is "-" while nobody has it claimed
        self.claims = base + "claims"
        #: sorted set: member → when it was buried, ms; the dead letters
        self.dead = base + "dead"
        #: hash: member → why it was buried
        self.reasons = base + "reasons"
        #: sorted set: expiry worker → the time it announced to wake, ms
        self.pacers = base + "pacers"
        #: channel: a due time (ms) that is earlier than announced, or "!" and a member that is due at once
        self.wake = base + "wake"
        self._trigger = base + "trigger:"
        self._answer = base + "answer:"

    def trigger(self, member: str) -> str:
        """String with a TTL, one a timer: its expiry fires the timer."""
        return self._trigger + member

    def answer(self, token: str) -> str:
        """String with a TTL of a minute: what a changing call answered, for its repetition."""
        return self._answer + token

    def events(self, database: int) -> str:
        """The pattern of the keyspace channels of all trigger keys in a database."""
        return re.sub(r"([*?\[\]\\])", r"\\\1", self._channel(database)) + "*"

    def member_of(self, channel: str, database: int) -> str:
        """The member whose trigger key a keyspace channel tells of."""
        return channel[len(self._channel(database)) :]

    def _channel(self, database: int) -> str:
        return f"__keyspace@{database}__:{self._trigger}"


def new_token() -> str:
    """A generation, or the token of a claim or call: 72 random bits, no colon in it."""
    return secrets.token_urlsafe(9)


def member(generation: str, label: str) -> str:
    """The member for one scheduling of the timer with this label."""
    return f"{generation}:{label}"


def label_of(member: str) -> str:
    """The user's name for the timer, else its task id."""
    return member.partition(":")[2]

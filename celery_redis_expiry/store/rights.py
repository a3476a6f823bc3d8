"""What a user of an ACL may do in Redis, found out by trying.

Redis looks at rights command by command, also inside a script: who lacks one is refused in the middle of a
change, and half of it stands. So it is asked beforehand, by commands that Redis refuses or that find nothing:
rights are looked at before arguments. `ACL DRYRUN` would be a right of its own, and Redis 6.2 has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import NoPermissionError

from celery_redis_expiry.keys import Channels, Keys, new_token
from celery_redis_expiry.scripts import PRELUDES, shared, source


class Role(NamedTuple):
    """Who calls what.

    Attributes:
        scripts: by their names.
        calls: the rights that its calls need beside those of the scripts.
        listening: those that only listening needs; without them timers fire all the same.
        counting: those that only its figures, and tidiness, need; the same.
    """

    scripts: tuple[str, ...]
    calls: tuple[str, ...]
    listening: tuple[str, ...] = ()
    counting: tuple[str, ...] = ()


ROLES = {
    "producer": Role(("enter", "add", "schedule", "inspect", "cancel"), ("hget", "hmget", "zscore")),
    "worker": Role(
        (
            *("enter", "look", "touch", "claim", "prolong", "ack", "release", "recover", "bury"),
            *("trim", "prune", "recur", "finish"),
        ),
        ("hmget", "zrem", "zcard"),
        ("set", "exists", "ping", "psubscribe"),
        ("time", "zcount", "hscan"),
    ),
    "task": Role(("finish",), ("hmget",)),
    "in place": Role(("fire", "oldest"), ("hmget", "info")),
    "watcher": Role(
        ("lead", "note", "agenda", "deliver", "fall_due"),
        ("hmget", "zcount", "zrangebyscore", "zscan", "zscore"),
    ),
    "operator": Role(
        (
            *("enter", "add", "schedule", "inspect", "cancel"),  # whoever reschedules and fires is a producer
            *("retry", "discard", "read", "put", "drop", "recover"),
        ),
        (
            *("hget", "hmget", "hset", "pttl", "zcard", "zcount", "zrange", "zrangebyscore", "zrevrange"),
            *("zscore", "time"),
        ),
    ),
    "beat": Role(
        ("enter", "add", "schedule", "inspect", "cancel", "revise"),  # a producer, too
        ("hget", "hmget", "hkeys", "hset", "hdel", "zscore", "time"),
    ),
    "rescuer": Role(
        ("enter", "add", "schedule", "inspect", "rescue", "hold"), ("hget", "hmget", "hlen", "time")
    ),
}
#: Without these timers fire, but some of them late.
PUNCTUALITY = {"publish", "psubscribe"}
#: Without these they fire on time, and nobody is told how many are overdue.
FIGURES = {"zcount"}
#: Without these they fire on time, and templates that no timer has any more stay in Redis.
TIDINESS = {"hscan"}

#: How each right is tried on a key that does not exist, so that nothing is changed.
TRIALS: dict[str, tuple[str, ...]] = {
    "ping": ("PING",),
    "time": ("TIME",),
    "info": ("INFO", "server"),
    "eval": ("EVAL", "(", "1", "KEY"),  # does not compile
    "get": ("GET", "KEY"),
    "set": ("SET", "KEY", "", "PX", "0"),  # no valid time
    "del": ("DEL", "KEY"),
    "llen": ("LLEN", "KEY"),
    "lrange": ("LRANGE", "KEY", "0", "0"),
    "lset": ("LSET", "KEY", "0", ""),  # no such key
    "lrem": ("LREM", "KEY", "0", ""),
    "exists": ("EXISTS", "KEY"),
    "pttl": ("PTTL", "KEY"),
    "hlen": ("HLEN", "KEY"),
    "hscan": ("HSCAN", "KEY", "0"),
    "hexists": ("HEXISTS", "KEY", "field"),
    "hget": ("HGET", "KEY", "field"),
    "hmget": ("HMGET", "KEY", "field"),
    "hset": ("HSET", "KEY", "field", "value", "field"),  # a value is missing
    "hkeys": ("HKEYS", "KEY"),
    "hdel": ("HDEL", "KEY", "field"),
    "zadd": ("ZADD", "KEY", "no number", "member"),
    "zrem": ("ZREM", "KEY", "member"),
    "zscore": ("ZSCORE", "KEY", "member"),
    "zmscore": ("ZMSCORE", "KEY", "member"),
    "zcard": ("ZCARD", "KEY"),
    "zcount": ("ZCOUNT", "KEY", "0", "0"),
    "zscan": ("ZSCAN", "KEY", "0"),
    "zrange": ("ZRANGE", "KEY", "0", "0"),
    "zrevrange": ("ZREVRANGE", "KEY", "0", "0"),
    "zrangebyscore": ("ZRANGEBYSCORE", "KEY", "0", "0"),
    "zrevrangebyscore": ("ZREVRANGEBYSCORE", "KEY", "0", "0"),
    "zremrangebyscore": ("ZREMRANGEBYSCORE", "KEY", "0", "0"),
    "publish": ("PUBLISH", "WAKE", ""),  # means nothing to a pacer
}
#: These know no wrong argument, so they meet a key of another type, which expires at once; where that can't
#: be made they are not tried. Answers 0 where they are refused.
ON_ANOTHER_TYPE: dict[str, tuple[str, ...]] = {"hsetnx": ("field", "value"), "lpush": ("value",)}
TRY_ON_ANOTHER_TYPE = """\
if redis.pcall('SET', KEYS[1], '', 'PX', 1).err then return 1 end
local told = redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2)).err
return string.find(told, 'WRONGTYPE') and 1 or 0
"""


def rights_of(role: str) -> set[str]:
    """Every right that the calls of a role need, by the names that `ACL SETUSER` takes."""
    return {*vital_to(role), *ROLES[role].listening, *ROLES[role].counting, *_used(role, "pcall")}


def vital_to(role: str) -> set[str]:
    """Those without which a change may be half done. What a script can do without, it calls by pcall."""
    return {"evalsha", "eval", *ROLES[role].calls, *_used(role, "call")}


def _used(role: str, by: str) -> set[str]:
    return {right for script in ROLES[role].scripts for right in _used_in(script, by)}


def _used_in(script: str, by: str) -> set[str]:
    """The commands that a script calls by `call` or `pcall`."""
    text = shared(script) + source(script)
    for block in reversed("\n".join(map(source, PRELUDES)).split("\n\n")):
        if f"{block.partition('local function ')[2].partition('(')[0]}(" in text:
            text += block
    return {name.lower() for name in re.findall(rf"redis\.{by}\('([A-Z]+)'", text)}


def missing(client: Redis, keys: Keys, channels: Channels, needed: Iterable[str]) -> list[str]:
    """The rules, as `ACL SETUSER` takes them, that the client's user would need besides; one round trip.

    Arguments:
        client: for one server: each node of a Cluster has an ACL of its own.
        keys: of a shard on that server.
        needed: rights. Whether it may listen is found out by `may_listen`.
    """
    pipe: Any = client.pipeline(transaction=False)
    for trial in trials(keys, needed):
        pipe.execute_command(*trial)
    return refused(needed, pipe.execute(raise_on_error=False), channels)


def trials(keys: Keys, needed: Iterable[str]) -> list[tuple[Any, ...]]:
    """The commands by which it is tried; they change nothing."""
    words = {"KEY": keys.answer(new_token()), "WAKE": keys.wake}
    every = _every_key(keys)
    commands: list[tuple[Any, ...]] = [
        *(tuple(words.get(word, word) for word in TRIALS[right]) for right in _tried(needed)),
        ("EVALSHA", "0" * 40, len(every), *every),  # no such script
    ]
    commands += [
        ("EVAL", TRY_ON_ANOTHER_TYPE, 1, words["KEY"], right, *ON_ANOTHER_TYPE[right])
        for right in _tried_on_another_type(needed)
    ]
    return commands


def refused(needed: Iterable[str], answers: Sequence[Any], channels: Channels) -> list[str]:
    """The rules that the answers to `trials`, errors among them, say are missing."""
    tried, others = [*_tried(needed), "evalsha"], _tried_on_another_type(needed)
    rules = {
        refused_rule(right, answer, channels.keys, channels.wake)
        for right, answer in zip(tried, answers, strict=False)
    }
    rules |= {f"+{right}" for right, answer in zip(others, answers[len(tried) :], strict=True) if answer == 0}
    return sorted(rule for rule in rules if rule)


def _tried(needed: Iterable[str]) -> list[str]:
    return [right for right in sorted(needed) if right in TRIALS]


def _tried_on_another_type(needed: Iterable[str]) -> list[str]:
    return [right for right in sorted(needed) if right in ON_ANOTHER_TYPE]


def may_listen(client: Redis, channels: Channels) -> list[str]:
    """The rules that the client's user would need besides for the subscription of an expiry worker."""
    rules = {
        refused_rule("psubscribe", _try_subscribing(client, channel), channels.keys, channel)
        for channel in channels.patterns
    }
    return sorted(rule for rule in rules if rule)


def refused_rule(right: str, answer: Any, keys: str, channel: str) -> str | None:
    """The rule for want of which Redis refused; None if it did not."""
    if not isinstance(answer, NoPermissionError):
        return None
    # the user's name stands before this word, and may be any
    what = str(answer).rpartition("permissions")[2]
    if "channel" in what:
        return f"&{channel}"
    return f"~{keys}" if " key" in what else f"+{right}"


def _try_subscribing(client: Any, channel: str) -> Any:
    pubsub = client.pubsub()
    try:
        pubsub.psubscribe(channel)
        pubsub.get_message(timeout=client.connection_pool.connection_kwargs["socket_timeout"])
    except NoPermissionError as exc:
        return exc
    finally:
        pubsub.close()
    return None


def _every_key(keys: Keys) -> list[str]:
    return [
        *(keys.namespace, keys.due, keys.parked, keys.timers, keys.names, keys.ids, keys.claimed),
        *(
            keys.claims,
            keys.dead,
            keys.reasons,
            keys.pacers,
            keys.templates,
            keys.used,
            keys.trigger("-:-"),
            keys.answer("-"),
            keys.running("-"),
            keys.beat,
        ),
        *(keys.watched("-"), keys.values("-"), keys.leader("-")),
    ]

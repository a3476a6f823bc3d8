"""What the app's user may do in Redis, found out by trying.

Each right is tried as the app has it, by a command that Redis refuses or that finds nothing: rights are
looked at before arguments. `ACL DRYRUN` would be a right of its own, and Redis 6.2 has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Finding, fail, ok, warn
from celery_redis_expiry.keys import PROBE, Keys, member, new_token
from celery_redis_expiry.scripts import PRELUDE, source

#: Who calls what: the scripts of each role, and the rights its calls need beside those of the scripts.
ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "producer": (("enter", "schedule", "inspect", "cancel"), ("hget", "hmget")),
    "worker": (
        ("enter", "look", "touch", "claim", "prolong", "ack", "release", "recover", "bury", "trim"),
        ("set", "exists", "hmget", "zrem", "zcard", "ping", "psubscribe"),
    ),
    "operator": (
        ("enter", "retry", "discard", "inspect", "put", "drop", "recover"),
        ("hget", "hmget", "hset", "zcard", "zrange", "zrevrange", "zscore", "time"),
    ),
}
#: Without these timers fire, but some of them late.
PUNCTUALITY = {"publish", "psubscribe"}

#: How each right is tried on a key that does not exist, so that nothing is changed.
TRIALS: dict[str, tuple[str, ...]] = {
    "ping": ("PING",),
    "time": ("TIME",),
    "eval": ("EVAL", "(", "1", "KEY"),  # does not compile
    "get": ("GET", "KEY"),
    "set": ("SET", "KEY", "", "PX", "0"),  # no valid time
    "del": ("DEL", "KEY"),
    "exists": ("EXISTS", "KEY"),
    "pttl": ("PTTL", "KEY"),
    "hlen": ("HLEN", "KEY"),
    "hget": ("HGET", "KEY", "field"),
    "hmget": ("HMGET", "KEY", "field"),
    "hset": ("HSET", "KEY", "field", "value", "field"),  # a value is missing
    "hdel": ("HDEL", "KEY", "field"),
    "zadd": ("ZADD", "KEY", "no number", "member"),
    "zrem": ("ZREM", "KEY", "member"),
    "zscore": ("ZSCORE", "KEY", "member"),
    "zcard": ("ZCARD", "KEY"),
    "zrange": ("ZRANGE", "KEY", "0", "0"),
    "zrevrange": ("ZREVRANGE", "KEY", "0", "0"),
    "zrangebyscore": ("ZRANGEBYSCORE", "KEY", "0", "0"),
    "zrevrangebyscore": ("ZREVRANGEBYSCORE", "KEY", "0", "0"),
    "zremrangebyscore": ("ZREMRANGEBYSCORE", "KEY", "0", "0"),
    "publish": ("PUBLISH", "WAKE", ""),  # means nothing to a pacer
}


def rights_of(role: str) -> set[str]:
    """Every right that the calls of a role need, by the names that `ACL SETUSER` takes."""
    scripts, direct = ROLES[role]
    return {"evalsha", "eval", *direct, *(right for name in scripts for right in used_by(name))}


def used_by(script: str) -> set[str]:
    """The commands that a script calls."""
    text = source(script)
    for block in PRELUDE.split("\n\n"):
        if f"{block.partition('local function ')[2].partition('(')[0]}(" in text:
            text += block
    return {name.lower() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}


def rights(server: Server, patient: Patient) -> Finding:
    user = _user(server)
    needed = sorted(set().union(*(rights_of(role) for role in patient.roles)))
    missing = sorted(set(_missing(server, needed)))
    data = {"user": user, "roles": list(patient.roles), "missing": missing}
    who = " and ".join(patient.roles)
    if not missing:
        return ok(f"the user {user} has every right of {who}", **data)
    text = f"the user {user} lacks, as {who}: {' '.join(missing)}"
    remedy = f"ACL SETUSER {user} {' '.join(missing)}"
    channels = {f"&{channel}" for channel in _channels(server)}
    if {rule.lstrip("+") for rule in missing} - PUNCTUALITY - channels:
        return fail(text, remedy, **data)
    return warn(f"{text}; timers fire, but those that nobody is told of up to a minute late", remedy, **data)


def _missing(server: Server, needed: Iterable[str]) -> Iterator[str]:
    """The rules, as `ACL SETUSER` takes them, that the user would need besides."""
    keys, probe = server.keys, server.keys.trigger(member(new_token(), PROBE))
    words = {"KEY": probe, "WAKE": keys.wake}
    trials = {right: TRIALS[right] for right in needed if right in TRIALS}
    pipe = server.client.pipeline(transaction=False)
    for trial in trials.values():
        pipe.execute_command(*(words.get(word, word) for word in trial))
    every = _every_key(keys)
    pipe.execute_command("EVALSHA", "0" * 40, len(every), *every)  # no such script
    answers = pipe.execute(raise_on_error=False)
    for right, answer in zip((*trials, "evalsha"), answers, strict=True):
        yield from _rule(right, answer, server, keys.wake)
    if "hsetnx" in needed:
        yield from _rule("hsetnx", _try_hsetnx(server, probe), server, "")
    for channel in _channels(server):
        if "psubscribe" in needed:
            yield from _rule("psubscribe", _try_subscribing(server, channel), server, channel)


def _rule(right: str, answer: Any, server: Server, channel: str) -> Iterator[str]:
    if isinstance(answer, NoPermissionError):
        told = str(answer)
        if "channel" in told:
            yield f"&{channel}"
        elif " key" in told:
            yield f"~{server.channels.keys}"
        else:
            yield f"+{right}"


def _try_hsetnx(server: Server, probe: str) -> Any:
    """It knows no wrong argument, so it meets a key of another type; none is made without one."""
    try:
        server.client.set(probe, "", px=60_000)
    except ResponseError:
        return None  # that right is told of by itself
    try:
        return server.client.hsetnx(probe, "field", "value")
    except ResponseError as exc:
        return exc
    finally:
        server.client.set(probe, "", px=1)


def _try_subscribing(server: Server, channel: str) -> Any:
    pubsub: Any = server.client.pubsub()
    try:
        pubsub.psubscribe(channel)
        pubsub.get_message(timeout=server.client.connection_pool.connection_kwargs["socket_timeout"])
    except NoPermissionError as exc:
        return exc
    finally:
        pubsub.close()
    return None


def _every_key(keys: Keys) -> list[str]:
    return [
        *(keys.namespace, keys.due, keys.parked, keys.timers, keys.names, keys.ids, keys.claimed),
        *(keys.claims, keys.dead, keys.reasons, keys.pacers, keys.trigger("-:-"), keys.answer("-")),
    ]


def _channels(server: Server) -> tuple[str, str]:
    """The patterns that a listener subscribes to."""
    return server.channels.wake, server.channels.events


def _user(server: Server) -> str:
    try:
        return str(server.client.acl_whoami())
    except ResponseError:
        return str(server.location.options.get("username") or "default")

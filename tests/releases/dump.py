"""A namespace of one release as JSON: read from a Redis, and put back into one as if time had passed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import redis

HERE = Path(__file__).parent
DUMP = "dump.json"
#: Sorted sets whose scores are times.
TIMES = ("due", "parked", "claimed", "dead", "pacers")
#: Remembered answers are for the process that asked, and for a minute: no other release ever reads them.
TRANSIENT = "answer:"

Dump = dict[str, Any]


def releases() -> list[str]:
    return sorted(folder.parent.name for folder in HERE.glob(f"*/{DUMP}"))


def read(release: str) -> Dump:
    dump: Dump = json.loads((HERE / release / DUMP).read_text(encoding="utf-8"))
    return dump


def program(release: str, name: str) -> str:
    """A script as this release sends it to Redis."""
    return (HERE / release / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def taken(client: redis.Redis, base: str) -> dict[str, Any]:
    """Every key of a namespace: type, value, and for one with a TTL the time at which it expires.

    Arguments:
        client: one that decodes.
        base: what the keys begin with.
    """
    keys: dict[str, Any] = {}
    for key in sorted(client.scan_iter(count=1000)):
        kind = client.type(key)
        if not key.startswith(base) or key.startswith(base + TRANSIENT):
            continue
        value: Any
        if kind == "hash":
            value = dict(sorted(client.hgetall(key).items()))
        elif kind == "zset":
            value = {member: int(score) for member, score in client.zrange(key, 0, -1, withscores=True)}
        else:
            value = client.get(key)
        keys[key[len(base) :]] = {"type": kind, "value": value}
        ttl = client.pttl(key)
        if ttl >= 0:
            keys[key[len(base) :]]["expires_ms"] = now_ms(client) + ttl
    return keys


def load(client: redis.Redis, dump: Dump, *, elapsed: float, broker: str) -> dict[str, int]:
    """Put a dump into Redis as if `elapsed` seconds had passed since it was taken.

    Arguments:
        broker: the identity of the broker here; the recorded one is a port that nobody listens on any more.

    Returns:
        label → its due time here, ms.
    """
    shift = now_ms(client) - dump["recorded_ms"] - round(elapsed * 1000)
    base = dump["base"]
    for name, entry in dump["keys"].items():
        key, value = base + name, entry["value"]
        if name == "claims":
            value = {member: _shifted_claim(claim, shift) for member, claim in value.items()}
        if name == "namespace":
            value = {**value, "broker": broker}
        if name in TIMES:
            client.zadd(key, {member: score + shift for member, score in value.items()})
        elif entry["type"] == "hash":
            client.hset(key, mapping=value)
        elif "expires_ms" in entry:
            client.set(key, value, px=max(1, entry["expires_ms"] + shift - now_ms(client)))
        else:
            client.set(key, value)
    return {timer["label"]: timer["due_ms"] + shift for timer in dump["timers"]}


def _shifted_claim(claim: str, shift: int) -> str:
    token, due, attempts = claim.split(":")
    return f"{token}:{int(due) + shift}:{attempts}"

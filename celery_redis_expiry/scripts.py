"""The Lua scripts by name: `lua/<verb>.lua`, each one change of state, all of it or nothing."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, TryAgainError
from redis.sentinel import SentinelConnectionPool

NAMES = (
    "ack",
    "agenda",
    "bury",
    "cancel",
    "claim",
    "deliver",
    "discard",
    "drop",
    "enter",
    "fall_due",
    "fire",
    "hold",
    "inspect",
    "lead",
    "look",
    "note",
    "prolong",
    "prune",
    "put",
    "read",
    "recover",
    "release",
    "rescue",
    "retry",
    "schedule",
    "touch",
    "trim",
)

#: Seconds between two attempts at what is refused for a moment only.
PAUSE = 0.05
#: Stand before every script: functions that several of them share.
PRELUDES = ("members", "templates", "prelude")
#: Functions that only these share.
LYING, ENVELOPES = "lying", "envelopes"
SHARED = {"hold": LYING, "rescue": LYING, "fire": ENVELOPES}
#: The script that one runs within its own.
WITHIN = {"rescue": "schedule"}


class Script:
    """One script, bound to a Redis client: `script(keys, args)`.

    EVALSHA, and EVAL where the server does not know the script (yet, or any more): it then knows it.
    redis-py's `register_script` loads scripts on every primary of a Cluster, though one of them may be down.

    Arguments:
        patience: seconds for which a slot in migration is waited for (half of its keys are elsewhere then,
            and the Cluster answers TRYAGAIN, before anything is done), and a primary without replicas.
    """

    def __init__(self, client: Any, name: str, patience: float) -> None:
        self._client = client
        self._text = program(name)
        self._sha = known_by(self._text)
        self._patience = patience

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                try:
                    return self._client.execute_command("EVALSHA", self._sha, len(keys), *keys, *args)
                except NoScriptError:
                    return self._client.execute_command("EVAL", self._text, len(keys), *keys, *args)
            except Exception as exc:
                if not self._passes(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    def _passes(self, exc: Exception) -> bool:
        """Whether nothing was done, and another attempt may be luckier."""
        if has_no_replicas(exc):
            pool = getattr(self._client, "connection_pool", None)
            if isinstance(pool, SentinelConnectionPool):
                # this may be the old primary of a failover: a new connection asks who is the new one. Those
                # in use are other threads' and must not be closed under them
                pool.disconnect(inuse_connections=False)
            return True
        return is_migrating(exc)


class Scripts:
    """All scripts, bound to a Redis client: `scripts.claim(keys=…, args=…)`."""

    def __init__(self, client: Any, patience: float = 0.0) -> None:
        for name in NAMES:
            setattr(self, name, Script(client, name, patience))

    def __getattr__(self, name: str) -> Any:  # for the type checker: every script is set in __init__
        raise AttributeError(name)


def has_no_replicas(exc: Exception) -> bool:
    """Whether a server refused to write for want of replicas (`min-replicas-to-write`)."""
    return "NOREPLICAS" in str(exc)


def is_migrating(exc: Exception) -> bool:
    """Whether a Cluster refused for a slot in migration. redis-py gives up after a while, in these words."""
    text = str(exc)
    return isinstance(exc, TryAgainError) or "TTL exhausted" in text or text.startswith("TRYAGAIN")


@cache
def source(name: str) -> str:
    """The text of one script, or of what scripts share."""
    return files("celery_redis_expiry").joinpath("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")


def program(name: str) -> str:
    """What Redis is sent for one script, and knows by its SHA1."""
    return "".join(map(source, PRELUDES)) + shared(name) + source(name)


def shared(name: str) -> str:
    """What stands between the preludes and a script: functions, and a whole script as one of them."""
    text = source(SHARED[name]) if name in SHARED else ""
    if name in WITHIN:
        # with keys and arguments of its own it is the same script: there is but one way to store a timer
        text += f"local function run_{WITHIN[name]}(KEYS, ARGV)\n{source(WITHIN[name])}end\n"
    return text


def known_by(text: str) -> str:
    """The SHA1 that Redis knows a script by."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def refused_command(error: str) -> str | None:
    """What the user of an ACL was refused, by the error of Redis: "ZADD", or None for another error.

    Before Redis 8 the refusal of a command inside a script names but the script's line.
    """
    named = re.search(r"permissions to run the '([^']+)' command", error)
    if named:
        return named.group(1).upper()
    if "can't run this command or subcommand" not in error:
        return None
    place = re.search(r"([0-9a-f]{40}).*?@user_script:(\d+)", error)
    lines = _lines().get(place.group(1), []) if place else []
    line = lines[int(place.group(2)) - 1] if place and lines else ""
    return " or ".join(dict.fromkeys(re.findall(r"redis\.p?call\('(\w+)'", line))) or "a command"


@cache
def _lines() -> dict[str, list[str]]:
    """The lines of each script by the SHA1 that Redis knows it by."""
    programs = map(program, NAMES)
    return {known_by(text): text.splitlines() for text in programs}

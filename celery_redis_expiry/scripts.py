"""The Lua scripts by name: `lua/<verb>.lua`, each one change of state, all of it or nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine
from functools import cache, partial
from importlib.resources import files
from typing import Any

from redis.exceptions import TryAgainError

from celery_redis_expiry.blocking import run

NAMES = (
    "ack",
    "add",
    "agenda",
    "bury",
    "cancel",
    "claim",
    "deliver",
    "discard",
    "drop",
    "enter",
    "fall_due",
    "finish",
    "fire",
    "hold",
    "inspect",
    "lead",
    "look",
    "note",
    "oldest",
    "prolong",
    "prune",
    "put",
    "read",
    "recover",
    "recur",
    "release",
    "rescue",
    "retry",
    "revise",
    "schedule",
    "touch",
    "trim",
)

#: Stand before every script: functions that several of them share.
PRELUDES = ("members", "templates", "prelude")
#: Functions that only these share.
LYING = "lying"
SHARED = {"hold": LYING, "rescue": LYING}
#: The script that one runs within its own.
WITHIN = {"rescue": "schedule"}


class Scripts:
    """All scripts, called at once over a link that blocks: `scripts.claim(keys=…, args=…)`.

    Arguments:
        call: `AnyLink.call` of that link.
    """

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        for name in NAMES:
            setattr(self, name, partial(self._run, call, name))

    @staticmethod
    def _run(call: Callable[..., Coroutine[Any, Any, Any]], name: str, **given: Any) -> Any:
        return run(call(name, **given))

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


@cache
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


@cache
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

"""The Lua scripts by name: `lua/<verb>.lua`, each one change of state, all of it or nothing."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

NAMES = (
    "ack",
    "bury",
    "cancel",
    "claim",
    "discard",
    "enter",
    "inspect",
    "look",
    "prolong",
    "recover",
    "release",
    "retry",
    "schedule",
    "touch",
)


#: Stands before every script: who puts a timer into the due index tells those who would sleep past it.
PRELUDE = """\
-- the pacers that announced to wake later hear of it; without the right to publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.call('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
"""


class Scripts:
    """The scripts, bound to a Redis client: `scripts.claim(keys=…, args=…)`.

    redis-py sends EVALSHA, and loads a script again where the server has lost it.
    """

    def __init__(self, client: Any) -> None:
        for name in NAMES:
            setattr(self, name, client.register_script(program(name)))

    def __getattr__(self, name: str) -> Any:  # for the type checker: every script is set in __init__
        raise AttributeError(name)


def source(name: str) -> str:
    """The text of one script."""
    return files("celery_redis_expiry").joinpath("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")


def program(name: str) -> str:
    """What Redis is sent for one script, and knows by its SHA1."""
    return PRELUDE + source(name)

"""The way to a real Redis in a test: our scripts, by the clock of the test's process.

Nobody can move the clock of a Redis. So a script that asks for the time is told the process's, and a TTL
counts from that. Trigger keys get the expiry that they would have, which comes later by Redis's own clock
once the process's was moved: they lie longer than their timers wait, and the index rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.store import AnyLink, AsyncLink, Link

#: Stands before each script; the last argument is the time, in microseconds.
CLOCK = """
local redis = (function(server)
  local micros = tonumber(table.remove(ARGV))
  local function ttl_of(key)
    local ttl, t = server.call('PTTL', key), server.call('TIME')
    if ttl < 0 then return ttl end
    ttl = ttl + t[1] * 1000 + math.floor(t[2] / 1000) - math.floor(micros / 1000)
    if ttl >= 0 then return ttl end
    server.call('DEL', key)
    return -2
  end
  local function call(name, ...)
    if name == 'PTTL' then return ttl_of(...) end
    if name ~= 'TIME' then return server.call(name, ...) end
    local seconds = math.floor(micros / 1000000)
    return {string.format('%.0f', seconds), string.format('%.0f', micros - seconds * 1000000)}
  end
  return {call = call, pcall = server.pcall}
end)(redis)
"""


class _ByProcessClock(AnyLink):
    def program(self, script: str) -> str:
        return CLOCK + super().program(script)

    async def call(self, script: str, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await super().call(script, keys=keys, args=[*args, round(time.time() * 1e6)])

    async def pipeline(
        self, commands: Sequence[Sequence[Any]], *, at: str | None = None, raise_on_error: bool = True
    ) -> list[Any]:
        answers = await super().pipeline(  # type: ignore[safe-super]
            [*commands, ("TIME",)], at=at, raise_on_error=raise_on_error
        )
        seconds, micros = answers.pop()
        ahead = time.time() - (int(seconds) + int(micros) / 1e6)
        return [
            _by_process_clock(command, answer, ahead)
            for command, answer in zip(commands, answers, strict=True)
        ]


def _by_process_clock(command: Sequence[Any], answer: Any, ahead: float) -> Any:
    """An answer of Redis as it is by a clock that is ahead of its own, in seconds."""
    if command[0] == "TIME" and not isinstance(answer, Exception):
        now = round(time.time() * 1e6)
        return now // 1_000_000, now % 1_000_000
    if command[0] == "PTTL" and isinstance(answer, int) and answer >= 0:
        left = answer - round(ahead * 1000)
        return left if left >= 0 else -2
    return answer


class RealLink(_ByProcessClock, Link):
    """One that blocks."""


class AsyncRealLink(_ByProcessClock, AsyncLink):
    """One that is awaited."""

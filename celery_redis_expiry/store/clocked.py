"""Ways to Redis for tests, by the clock of this process.

Nobody can move the clock of a Redis; a test moves that of its process. So a script that asks for the time is
told the process's, and a TTL counts from that. On a real Redis trigger keys get the expiry that they would
have, which comes later by Redis's own clock once the process's was moved: they lie longer than their timers
wait, and the index rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.store.async_link import AsyncLink
from celery_redis_expiry.store.link import AnyLink, Link

#: Stands before each script, whose last argument is the time in microseconds.
CLOCK = """
local redis = (function(server)
  local micros = tonumber(table.remove(ARGV))
  local function expiry_of(key)
    %s
  end
  local function ttl_of(key)
    local expiry = expiry_of(key)
    if expiry < 0 then return expiry end
    local ttl = expiry - math.floor(micros / 1000)
    if ttl >= 0 then return ttl end
    server.call('DEL', key)
    return -2
  end
  local function call(name, ...)
    if name == 'PTTL' then return ttl_of(...) end
    if name ~= 'TIME' then return server.call(name, ...) end
    local seconds = math.floor(micros / 1000000)
    return {string.format('%%.0f', seconds), string.format('%%.0f', micros - seconds * 1000000)}
  end
  return {call = call, pcall = server.pcall, sha1hex = server.sha1hex}
end)(redis)
"""
#: Before Redis 7 nobody tells when a key expires.
BY_TTL = """
    local ttl, t = server.call('PTTL', key), server.call('TIME')
    return ttl < 0 and ttl or ttl + t[1] * 1000 + math.floor(t[2] / 1000)
"""
#: fakeredis tells a TTL that is a ms off, or, within a script, longer ago than its time.
BY_EXPIRY = "return server.call('PEXPIRETIME', key)"

#: What a clock has to do with, outside of scripts.
OF_TIME = ("TIME", "PTTL")

#: In fakeredis functions alone have it, scripts do not.
SHA1 = """
redis.sha1hex = redis.sha1hex or function(text)
  local of = python.eval("lambda text: __import__('hashlib').sha1(text).hexdigest().encode()")
  return of(text)
end
"""

#: The JSON of fakeredis takes text alone, where that of Redis takes any bytes, as of members: in there each
#: byte beyond ASCII stands as the character of its number.
CJSON = r"""
local cjson = (function(given)
  local function each(value, convert)
    if type(value) == 'string' then return convert(value) end
    if type(value) ~= 'table' then return value end
    local converted = {}
    for key, part in pairs(value) do converted[each(key, convert)] = each(part, convert) end
    return converted
  end
  local function widen(text)
    return (string.gsub(text, '[\128-\255]', function(char)
      local byte = string.byte(char)
      return string.char(192 + math.floor(byte / 64), 128 + byte % 64)
    end))
  end
  local function narrow(text)
    return (string.gsub(text, '([\194\195])([\128-\191])', function(first, second)
      return string.char((string.byte(first) - 192) * 64 + string.byte(second) - 128)
    end))
  end
  return {
    encode = function(value) return given.encode(each(value, widen)) end,
    decode = function(text) return each(given.decode(text), narrow) end,
  }
end)(cjson)
"""


class _Clocked(AnyLink):
    before: str

    def program(self, script: str) -> str:
        return self.before + super().program(script)

    async def call(self, script: str, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await super().call(script, keys=keys, args=[*args, _micros()])

    async def pipeline(
        self, commands: Sequence[Sequence[Any]], *, at: str | None = None, raise_on_error: bool = True
    ) -> list[Any]:
        if not any(command[0] in OF_TIME for command in commands):
            return await super().pipeline(commands, at=at, raise_on_error=raise_on_error)  # type: ignore[safe-super]
        now = _micros()
        asked = [*map(self._asked, commands), ("TIME",)]
        answers = await super().pipeline(asked, at=at, raise_on_error=raise_on_error)  # type: ignore[safe-super]
        seconds, micros = answers.pop()
        server = int(seconds) * 1_000_000 + int(micros)
        return [
            self._answered(command[0], answer, now, server)
            for command, answer in zip(commands, answers, strict=True)
        ]

    @staticmethod
    def _asked(command: Sequence[Any]) -> Sequence[Any]:
        return command

    @staticmethod
    def _expiry(answer: int, server: int) -> int:
        return answer + server // 1000

    def _answered(self, command: str, answer: Any, now: int, server: int) -> Any:
        """An answer of the server as it is by the clock of this process.

        Arguments:
            now, server: the time here and there, in microseconds.
        """
        if command == "TIME" and not isinstance(answer, Exception):
            return divmod(now, 1_000_000)
        if command == "PTTL" and isinstance(answer, int) and answer >= 0:
            left = self._expiry(answer, server) - now // 1000
            return left if left >= 0 else -2
        return answer


def _micros() -> int:
    return round(time.time() * 1e6)


class _InMemory(_Clocked):
    before = CLOCK % BY_EXPIRY + SHA1 + CJSON

    @staticmethod
    def _asked(command: Sequence[Any]) -> Sequence[Any]:
        return ("PEXPIRETIME", *command[1:]) if command[0] == "PTTL" else command

    @staticmethod
    def _expiry(answer: int, server: int) -> int:
        return answer


class _Real(_Clocked):
    before = CLOCK % BY_TTL


class MemoryLink(_InMemory, Link):
    """To a store in memory: fakeredis, which runs our very scripts."""


class AsyncMemoryLink(_InMemory, AsyncLink):
    """The same, awaited."""


class ClockedLink(_Real, Link):
    """To a real Redis."""


class AsyncClockedLink(_Real, AsyncLink):
    """The same, awaited."""

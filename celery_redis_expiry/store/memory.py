"""The way to a store in memory: our scripts, as fakeredis runs them."""

from __future__ import annotations

from celery_redis_expiry.store.async_link import AsyncLink
from celery_redis_expiry.store.link import AnyLink, Link

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


class _InMemory(AnyLink):
    def program(self, script: str) -> str:
        return CJSON + super().program(script)


class MemoryLink(_InMemory, Link):
    """One that blocks."""


class AsyncMemoryLink(_InMemory, AsyncLink):
    """One that is awaited."""

-- a key that somebody made another type fails a script here, before its first write: all of it or nothing
local function check(sorted_sets, hashes)
  for _, key in ipairs(sorted_sets) do redis.call('ZCARD', key) end
  for _, key in ipairs(hashes) do redis.call('HLEN', key) end
end

-- holder, due and attempts of a claim, and ':?' where the broker may have the message, and nobody knows; nil
-- where it can't be read: no damage to it puts the timer off
local function read_claim(claim, now)
  local holder, due, attempts, unsure = string.match(claim or '', '^([^:]*):(%d+):(%d+)(:?%??)$')
  if holder then return holder, math.min(tonumber(due), now), math.min(tonumber(attempts), 1e6), unsure end
end

-- the number of shards, where it is another than the caller reckons with: he looks for timers elsewhere
local function recut(namespace, shards)
  local recorded = redis.pcall('HGET', namespace, 'shards')
  if type(recorded) == 'string' and recorded ~= shards then return recorded end
end

-- whether a timer is beyond recall although it is not claimed
local function is_unsure(claim)
  return string.sub(claim or '', -2) == ':?'
end

-- who puts a timer into the due index tells the pacers that announced to wake later; without the right to
-- publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.pcall('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
-- trim: forget the oldest dead letters, where there are too many or they are too old.
-- KEYS: timers dead reasons
-- ARGV: most age_ms limit
-- RETURNS: flat list of member, time buried and reason of what was forgotten
local timers, dead, reasons = KEYS[1], KEYS[2], KEYS[3]
local most, age, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
check({dead}, {timers, reasons})
local t = redis.call('TIME')
local before = t[1] * 1000 + math.floor(t[2] / 1000) - age
local excess = redis.call('ZCARD', dead) - most
local dropped = {}
local oldest = redis.call('ZRANGE', dead, 0, limit - 1, 'WITHSCORES')
for i = 1, #oldest, 2 do
  local member = oldest[i]
  if excess <= 0 and tonumber(oldest[i + 1]) >= before then break end
  dropped[#dropped + 1] = member
  dropped[#dropped + 1] = oldest[i + 1]
  dropped[#dropped + 1] = redis.call('HGET', reasons, member) or ''
  redis.call('ZREM', dead, member)
  redis.call('HDEL', timers, member)
  redis.call('HDEL', reasons, member)
  excess = excess - 1
end
return dropped

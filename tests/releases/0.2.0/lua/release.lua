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
-- release: give claimed timers back, to be claimed again after a delay.
-- KEYS: due claimed claims pacers
-- ARGV: token delay_ms tried unsure wake, then the members
--   tried: "1" where the message itself was not taken, "0" where it never got that far; unsure: "1" where the broker
--   may have taken it
-- RETURNS: how many were released
local due_index, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, delay, tried, wake = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local now_unsure = ARGV[4] == '1' and ':?'
check({due_index, claimed}, {claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local released, earliest = 0, nil
for a = 6, #ARGV do
  local member = ARGV[a]
  local holder, due, attempts, unsure = read_claim(redis.call('HGET', claims, member), now)
  if holder == token then
    local again = delay > 0 and now + delay or due
    redis.call('ZREM', claimed, member)
    redis.call('HSET', claims, member, string.format('-:%.0f:%.0f%s', due, attempts + tried, now_unsure or unsure))
    redis.call('ZADD', due_index, string.format('%.0f', again), member)
    released = released + 1
    if not earliest or again < earliest then earliest = again end
  end
end
wake_pacers(pacers, wake, earliest)
return released

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
-- touch: let due trigger keys expire now, and follow the TTL of those that were given another one.
-- KEYS: due parked pacers, then the trigger keys
-- ARGV: recheck_ms wake, then the members
-- RETURNS: {gone, moved, parked}: how many
local due_index, parked, pacers = KEYS[1], KEYS[2], KEYS[3]
local recheck, wake = tonumber(ARGV[1]), ARGV[2]
check({due_index, parked}, {})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gone, moved, now_parked, earliest = 0, 0, 0, nil

-- ZREM comes before ZADD: it frees memory, after which a full Redis lets the script write
local function put(from, to, score, member)
  redis.call('ZREM', from, member)
  redis.call('ZADD', to, string.format('%.0f', score), member)
end

for i = 3, #ARGV do
  local member = ARGV[i]
  local home = redis.call('ZSCORE', due_index, member) and due_index
    or redis.call('ZSCORE', parked, member) and parked
  -- asking for the TTL of a key whose time has come deletes it and sends its expired event
  local ttl = redis.call('PTTL', KEYS[i + 1])
  if home and ttl == -1 then
    put(home, parked, now + recheck, member)
    now_parked = now_parked + 1
  elseif home and ttl >= 0 then
    put(home, due_index, now + ttl, member)
    moved = moved + 1
    if not earliest or now + ttl < earliest then earliest = now + ttl end
  elseif home then
    if home == parked then
      put(parked, due_index, now, member)
      if not earliest or now < earliest then earliest = now end
    end
    gone = gone + 1
  end
end
wake_pacers(pacers, wake, earliest)
return {gone, moved, now_parked}

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
-- claim: take due timers for publishing, until the lease ends.
-- KEYS: due timers parked claimed claims pacers, then the trigger keys
-- ARGV: token lease_ms recheck_ms wake, then per timer: member expired
--   expired: "1" where an event said that the trigger key has expired, "0" where only the index says so
-- RETURNS: {now_ms, claims}: claims is a flat list of member due_ms attempts record ("" where it is missing)
local due_index, timers, parked, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, lease, recheck, wake = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
check({due_index, parked, claimed}, {timers, claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease_end = string.format('%.0f', now + lease)
local taken, earliest = {}, nil

local function give(member, due, attempts)
  taken[#taken + 1] = member
  taken[#taken + 1] = string.format('%.0f', due)
  taken[#taken + 1] = string.format('%.0f', attempts)
  taken[#taken + 1] = redis.call('HGET', timers, member) or ''
end

local k = 7
for a = 5, #ARGV, 2 do
  local member, expired = ARGV[a], ARGV[a + 1] == '1'
  local holder, first_due, attempts, unsure = read_claim(redis.call('HGET', claims, member), now)
  local score, home = redis.call('ZSCORE', due_index, member), due_index
  if not score then score, home = redis.call('ZSCORE', parked, member), parked end
  if holder == token then
    give(member, first_due, attempts) -- the reply to this very call was lost
  elseif score then
    local ttl = redis.call('PTTL', KEYS[k])
    -- each ZREM comes before its ZADD: it frees memory, after which a full Redis lets the script write
    if ttl == -1 then
      redis.call('ZREM', home, member)
      redis.call('ZADD', parked, string.format('%.0f', now + recheck), member)
    elseif ttl >= 0 then
      redis.call('ZREM', home, member)
      redis.call('ZADD', due_index, string.format('%.0f', now + ttl), member)
      if not earliest or now + ttl < earliest then earliest = now + ttl end
    elseif expired or (home == due_index and tonumber(score) <= now) then
      local due = first_due or math.max(0, math.min(tonumber(score), now))
      attempts = attempts or 0
      redis.call('ZREM', home, member)
      redis.call('ZADD', claimed, lease_end, member)
      redis.call('HSET', claims, member, string.format('%s:%.0f:%.0f%s', token, due, attempts, unsure or ''))
      give(member, due, attempts)
    end
  end
  k = k + 1
end
wake_pacers(pacers, wake, earliest)
return {string.format('%.0f', now), taken}

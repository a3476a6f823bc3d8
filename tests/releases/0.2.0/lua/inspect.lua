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
-- inspect: what is known of one timer.
-- KEYS: due timers parked claimed claims trigger
-- ARGV: member
-- RETURNS: {now_ms, state, due_ms, pttl_ms, record}; state: waiting parked claimed, or gone
local due_index, timers, parked, claimed, claims, trigger = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member = ARGV[1]
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local record = redis.call('HGET', timers, member) or ''

if redis.call('ZSCORE', claimed, member) then
  local claim = redis.call('HGET', claims, member) or ''
  return {now, 'claimed', string.match(claim, '^[^:]*:(%d+):') or '0', '-2', record}
end
local ttl = redis.call('PTTL', trigger)
local due = redis.call('ZSCORE', due_index, member)
if due then return {now, ttl == -1 and 'parked' or 'waiting', due, tostring(ttl), record} end
local look = redis.call('ZSCORE', parked, member)
if look then return {now, ttl == -1 and 'parked' or 'waiting', look, tostring(ttl), record} end
return {now, 'gone', '0', '-2', ''}

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
-- look: read what is due, oldest first with a share of the newest, and announce when to wake.
-- KEYS: due parked claimed pacers namespace
-- ARGV: worker limit newest parked_limit cap_ms stale_ms shards
-- RETURNS: {now_us, wake_ms, lease_ms, due, newest, parked}: lease_ms is the first lease's end or ""; due and newest
--   are flat lists of member and due time. Or {shards}, where there is another number of them by now
local due_index, parked, claimed, pacers, namespace = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, limit, newest_limit, parked_limit = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local cap, stale = tonumber(ARGV[5]), tonumber(ARGV[6])
local cut = recut(namespace, ARGV[7])
if cut then return {cut} end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- a key lives until now > due, so what is due at this very millisecond isn't yet
local before = string.format('%.0f', now - 1)
local due = redis.call('ZRANGEBYSCORE', due_index, '-inf', before, 'WITHSCORES', 'LIMIT', 0, limit)
local newest = {}
if #due >= 2 * limit then
  newest = redis.call('ZREVRANGEBYSCORE', due_index, before, '-inf', 'WITHSCORES', 'LIMIT', 0, newest_limit)
end

local wake = now + cap
local head = redis.call('ZRANGEBYSCORE', due_index, '(' .. before, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
if head then wake = math.min(wake, tonumber(head) + 1) end
local lease = redis.call('ZRANGE', claimed, 0, 0, 'WITHSCORES')[2]
if lease then wake = math.max(now, math.min(wake, tonumber(lease) + 1)) end

local look = redis.call('ZRANGEBYSCORE', parked, '-inf', before, 'LIMIT', 0, parked_limit)
local wake_text = string.format('%.0f', wake)
-- a full Redis may refuse to hear this, or the key be another type; firing must go on all the same
redis.pcall('ZREMRANGEBYSCORE', pacers, '-inf', string.format('%.0f', now - stale))
redis.pcall('ZADD', pacers, wake_text, worker)
return {string.format('%.0f', t[1] * 1000000 + t[2]), wake_text, lease or '', due, newest, look}

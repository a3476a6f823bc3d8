-- look: read what is due, oldest first with a share of the newest, and announce when to wake.
-- KEYS: due parked claimed pacers namespace timers
-- ARGV: worker limit newest parked_limit cap_ms stale_ms shards ahead
-- RETURNS: {now_us, wake_ms, lease_ms, due, newest, parked, next}: lease_ms is the first lease's end or ""; due and newest
--   are pairs of a list of members and their due times, with spaces between them; next: when the next falls due, and of
--   those that do then, `ahead` at most, place and stored message. Or {shards}, where there is another number of them by now
local due_index, parked, claimed, pacers, namespace, timers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local worker, limit, newest_limit, parked_limit = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local cap, stale, ahead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
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
local soon = math.max(1, ahead)
local heads = redis.call('ZRANGEBYSCORE', due_index, '(' .. before, '+inf', 'WITHSCORES', 'LIMIT', 0, soon)
local head, coming, next_due = heads[2], {}, {}
if head then wake = math.min(wake, tonumber(head) + 1) end
for i = 1, ahead > 0 and #heads or 0, 2 do
  if heads[i + 1] == head then coming[#coming + 1] = heads[i] end
end
if coming[1] then
  next_due[1] = head
  -- what is large is read when it is due
  for i, record in ipairs(redis.pcall('HMGET', timers, unpack(coming))) do
    if record and #record < 10000 then next_due[#next_due + 1], next_due[#next_due + 2] = coming[i], record end
  end
end
local lease = redis.call('ZRANGE', claimed, 0, 0, 'WITHSCORES')[2]
if lease then wake = math.max(now, math.min(wake, tonumber(lease) + 1)) end

local look = redis.call('ZRANGEBYSCORE', parked, '-inf', before, 'LIMIT', 0, parked_limit)

-- members and due times, of places and due times
local function told(flat)
  local places, dues = {}, {}
  for i = 1, #flat, 2 do places[#places + 1], dues[#dues + 1] = flat[i], flat[i + 1] end
  return {members_at(timers, places), table.concat(dues, ' ')}
end

local wake_text = string.format('%.0f', wake)
-- a full Redis may refuse to hear this, or the key be another type; firing must go on all the same
redis.pcall('ZREMRANGEBYSCORE', pacers, '-inf', string.format('%.0f', now - stale))
redis.pcall('ZADD', pacers, wake_text, worker)
local now_us = string.format('%.0f', t[1] * 1000000 + t[2])
return {now_us, wake_text, lease or '', told(due), told(newest), members_at(timers, look), next_due}

-- recover: release what was claimed by a worker whose lease has ended.
-- KEYS: due claimed claims pacers
-- ARGV: limit wake
-- RETURNS: how many were recovered
local due_index, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, wake = ARGV[1], ARGV[2]
check({due_index, claimed}, {claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local places = redis.call('ZRANGEBYSCORE', claimed, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)
local earliest = places[1] and now
for _, place in ipairs(places) do
  local _, due, attempts = read_claim(redis.call('HGET', claims, place), now)
  due = string.format('%.0f', due or now)
  redis.call('ZREM', claimed, place)
  -- nobody knows how far its worker had come
  redis.call('HSET', claims, place, string.format('-:%s:%.0f:?', due, attempts or 0))
  redis.call('ZADD', due_index, due, place)
end
wake_pacers(pacers, wake, earliest)
return #places

-- recover: release what was claimed by a worker whose lease has ended.
-- KEYS: due claimed claims pacers
-- ARGV: limit wake
-- RETURNS: the recovered members
local due_index, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, wake = ARGV[1], ARGV[2]
check({due_index, claimed}, {claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', claimed, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)
local earliest = members[1] and now
for _, member in ipairs(members) do
  local _, due, attempts = read_claim(redis.call('HGET', claims, member), now)
  due = string.format('%.0f', due or now)
  redis.call('ZREM', claimed, member)
  -- nobody knows how far its worker had come
  redis.call('HSET', claims, member, string.format('-:%s:%.0f:?', due, attempts or 0))
  redis.call('ZADD', due_index, due, member)
end
wake_pacers(pacers, wake, earliest)
return members

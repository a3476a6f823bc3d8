-- the pacers that announced to wake later hear of it; without the right to publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.call('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
-- recover: release what was claimed by a worker whose lease has ended.
-- KEYS: due claimed claims pacers
-- ARGV: limit wake
-- RETURNS: the recovered members
local due_index, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, wake = ARGV[1], ARGV[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', claimed, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)
local earliest = members[1] and now
for _, member in ipairs(members) do
  local due, attempts = string.match(redis.call('HGET', claims, member) or '', '^[^:]*:(%d+):(%d+)$')
  due = due or string.format('%.0f', now)
  redis.call('ZREM', claimed, member)
  redis.call('HSET', claims, member, '-:' .. due .. ':' .. (attempts or '0'))
  redis.call('ZADD', due_index, due, member)
end
wake_pacers(pacers, wake, earliest)
return members

-- recover: release what was claimed by a worker whose lease has ended.
-- KEYS: due claimed claims
-- ARGV: limit
-- RETURNS: the recovered members
local due_index, claimed, claims = KEYS[1], KEYS[2], KEYS[3]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', claimed, '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(members) do
  local due, attempts = string.match(redis.call('HGET', claims, member) or '', '^[^:]*:(%d+):(%d+)$')
  due = due or string.format('%.0f', now)
  redis.call('ZREM', claimed, member)
  redis.call('HSET', claims, member, '-:' .. due .. ':' .. (attempts or '0'))
  redis.call('ZADD', due_index, due, member)
end
return members

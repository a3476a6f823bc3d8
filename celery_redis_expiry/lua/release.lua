-- release: give claimed timers back, to be claimed again after a delay.
-- KEYS: due claimed claims
-- ARGV: token delay_ms tried, then the members
--   tried: "1" where the message itself was refused, "0" where it never got that far
-- RETURNS: how many were released
local due_index, claimed, claims = KEYS[1], KEYS[2], KEYS[3]
local token, delay, tried = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local released = 0
for a = 4, #ARGV do
  local member = ARGV[a]
  local holder, due, attempts = string.match(redis.call('HGET', claims, member) or '', '^([^:]*):(%d+):(%d+)$')
  if holder == token then
    redis.call('ZREM', claimed, member)
    redis.call('HSET', claims, member, '-:' .. due .. ':' .. string.format('%.0f', attempts + tried))
    redis.call('ZADD', due_index, delay > 0 and string.format('%.0f', now + delay) or due, member)
    released = released + 1
  end
end
return released

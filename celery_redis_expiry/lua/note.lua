-- note: write down when watched keys expire; only who leads their watch may.
-- KEYS: leader watched values
-- ARGV: token limit, then per key: key ttl_ms value
--   ttl_ms: "" for a key that will not expire; value: "=" and a snapshot, "-" where the known one is outdated, else ""
-- RETURNS: {now_ms, size, refused}: how many keys there are, and how many found no place; {} where another leads
local leader, watched, values = KEYS[1], KEYS[2], KEYS[3]
local token, limit = ARGV[1], tonumber(ARGV[2])
check({watched}, {values})
if redis.call('GET', leader) ~= token then return {} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local size, refused = redis.call('ZCARD', watched), 0
for a = 3, #ARGV, 3 do
  local key, ttl, value = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  if ttl == '' then
    size = size - redis.call('ZREM', watched, key)
    redis.call('HDEL', values, key)
  elseif size >= limit and not redis.call('ZSCORE', watched, key) then
    refused = refused + 1
  else
    size = size + redis.call('ZADD', watched, string.format('%.0f', now + tonumber(ttl)), key)
    if value == '-' then redis.call('HDEL', values, key) end
    if string.sub(value, 1, 1) == '=' then redis.call('HSET', values, key, string.sub(value, 2)) end
  end
end
return {string.format('%.0f', now), size, refused}

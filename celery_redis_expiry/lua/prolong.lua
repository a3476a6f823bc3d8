-- prolong: hold claimed timers for longer; a worker does so while its broker takes its time.
-- KEYS: claimed claims
-- ARGV: token lease_ms, then the members
-- RETURNS: the members that are no longer this claim's
local claimed, claims = KEYS[1], KEYS[2]
local token, lease = ARGV[1], tonumber(ARGV[2])
check({claimed}, {claims})
local t = redis.call('TIME')
local lease_end = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + lease)
local lost = {}
for a = 3, #ARGV do
  local place = place_of(ARGV[a])
  if string.match(redis.call('HGET', claims, place) or '', '^([^:]*):') == token then
    -- ZREM frees memory, after which a full Redis lets the script write
    redis.call('ZREM', claimed, place)
    redis.call('ZADD', claimed, lease_end, place)
  else
    lost[#lost + 1] = ARGV[a]
  end
end
return lost

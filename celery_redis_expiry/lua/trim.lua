-- trim: forget the oldest dead letters, where there are too many or they are too old.
-- KEYS: timers dead reasons
-- ARGV: most age_ms limit
-- RETURNS: flat list of member, time buried and reason of what was forgotten
local timers, dead, reasons = KEYS[1], KEYS[2], KEYS[3]
local most, age, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
check({dead}, {timers, reasons})
local t = redis.call('TIME')
local before = t[1] * 1000 + math.floor(t[2] / 1000) - age
local excess = redis.call('ZCARD', dead) - most
local dropped = {}
local oldest = redis.call('ZRANGE', dead, 0, limit - 1, 'WITHSCORES')
for i = 1, #oldest, 2 do
  local place = oldest[i]
  if excess <= 0 and tonumber(oldest[i + 1]) >= before then break end
  dropped[#dropped + 1] = member_at(timers, place)
  dropped[#dropped + 1] = oldest[i + 1]
  dropped[#dropped + 1] = redis.call('HGET', reasons, place) or ''
  redis.call('ZREM', dead, place)
  redis.call('HDEL', timers, place)
  redis.call('HDEL', reasons, place)
  excess = excess - 1
end
return dropped

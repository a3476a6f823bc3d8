-- the pacers that announced to wake later hear of it; without the right to publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.call('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
-- discard: forget a dead letter for good.
-- KEYS: timers dead reasons answer
-- ARGV: remember_ms member
-- RETURNS: 1 if there was one, else 0
local timers, dead, reasons, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local remember, member = ARGV[1], ARGV[2]
if redis.call('EXISTS', answer) == 1 then return 1 end
if redis.call('ZREM', dead, member) == 0 then return 0 end
redis.call('HDEL', timers, member)
redis.call('HDEL', reasons, member)
redis.call('SET', answer, '', 'PX', remember)
return 1

-- discard: forget a dead letter for good.
-- KEYS: timers dead reasons
-- ARGV: member
-- RETURNS: 1 if there was one, else 0
local timers, dead, reasons = KEYS[1], KEYS[2], KEYS[3]
local removed = redis.call('ZREM', dead, ARGV[1])
if removed == 1 then
  redis.call('HDEL', timers, ARGV[1])
  redis.call('HDEL', reasons, ARGV[1])
end
return removed

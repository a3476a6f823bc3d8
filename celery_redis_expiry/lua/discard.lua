-- discard: forget a dead letter for good.
-- KEYS: timers dead reasons answer
-- ARGV: remember_ms member
-- RETURNS: 1 if there was one, else 0
local timers, dead, reasons, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local remember, member = ARGV[1], ARGV[2]
check({dead}, {timers, reasons})
if redis.call('EXISTS', answer) == 1 then return 1 end
if redis.call('ZREM', dead, member) == 0 then return 0 end
redis.call('HDEL', timers, member)
redis.call('HDEL', reasons, member)
redis.call('SET', answer, '', 'PX', remember)
return 1

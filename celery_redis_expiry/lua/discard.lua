-- discard: forget a dead letter for good.
-- KEYS: timers dead reasons answer
-- ARGV: remember_ms member
-- RETURNS: 1 if there was one, else 0
local timers, dead, reasons, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local remember, member = ARGV[1], ARGV[2]
check({dead}, {timers, reasons})
if redis.call('EXISTS', answer) == 1 then return 1 end
local place = place_of(member)
if redis.call('ZREM', dead, place) == 0 then return 0 end
redis.call('HDEL', timers, place)
redis.call('HDEL', reasons, place)
redis.call('SET', answer, '', 'PX', remember)
return 1

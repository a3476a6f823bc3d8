-- retry: make a dead letter a timer again, due at once.
-- KEYS: due timers names ids parked dead reasons answer
-- ARGV: wake remember_ms member name id
-- RETURNS: 1 if it waits again, 0 if there is no such dead letter, -1 if it recurs and another waits under its name:
--   nothing is done
local due_index, timers, names, ids = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local parked, dead, reasons, answer = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local wake, remember, member, name, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
check({due_index, parked, dead}, {timers, names, ids, reasons})
if redis.call('EXISTS', answer) == 1 then return 1 end
local place = place_of(member)
if not redis.call('ZSCORE', dead, place) then return 0 end
if name ~= '' and string.sub(redis.call('HGET', timers, place) or '', 1, 2) == '5:' then
  -- both would recur for ever, and only one has a name by which it can be cancelled
  local namesake = redis.call('HGET', names, name)
  if namesake and namesake ~= member and waiting(due_index, parked, namesake) then return -1 end
end
redis.call('ZREM', dead, place)
local t = redis.call('TIME')
redis.call('HDEL', reasons, place)
redis.call('ZADD', due_index, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), place)
if name ~= '' then redis.call('HSETNX', names, name, member) end
-- where another has its task id by now, that one is meant
if place == member then redis.call('HSETNX', ids, id, member) end
redis.call('SET', answer, '', 'PX', remember)
redis.pcall('PUBLISH', wake, '!' .. member)
return 1

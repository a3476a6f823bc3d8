-- retry: make a dead letter a timer again, due at once.
-- KEYS: due names ids dead reasons answer
-- ARGV: wake remember_ms member name id
-- RETURNS: 1 if it waits again, 0 if there is no such dead letter
local due_index, names, ids, dead, reasons, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local wake, remember, member, name, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
check({due_index, dead}, {names, ids, reasons})
if redis.call('EXISTS', answer) == 1 then return 1 end
local place = place_of(member)
if redis.call('ZREM', dead, place) == 0 then return 0 end
local t = redis.call('TIME')
redis.call('HDEL', reasons, place)
redis.call('ZADD', due_index, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), place)
if name ~= '' then redis.call('HSETNX', names, name, member) end
-- where another has its task id by now, that one is meant
if place == member then redis.call('HSETNX', ids, id, member) end
redis.call('SET', answer, '', 'PX', remember)
redis.pcall('PUBLISH', wake, '!' .. member)
return 1

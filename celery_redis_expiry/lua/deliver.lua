-- deliver: forget watched keys that are gone, and store a timer that is due now for each handler that is to be told.
-- KEYS: leader watched values due timers ids pacers answer
-- ARGV: token remember_ms wake count, then so many keys, then per timer: member id record
-- RETURNS: 1; 0 where another leads
local leader, watched, values, due_index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local timers, ids, pacers, answer = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local token, remember, wake, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
check({watched, due_index}, {values, timers, ids})
if redis.call('EXISTS', answer) == 1 then return 1 end
if redis.call('GET', leader) ~= token then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- ZREM first: it frees memory, after which a full Redis lets the script write
for a = 5, 4 + count do
  redis.call('ZREM', watched, ARGV[a])
  redis.call('HDEL', values, ARGV[a])
end
for a = 5 + count, #ARGV, 3 do
  local member, id, record = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  redis.call('HSET', timers, member, record)
  redis.call('ZADD', due_index, string.format('%.0f', now), member)
  redis.call('HSET', ids, id, member)
  redis.pcall('PUBLISH', wake, '!' .. member)
end
redis.call('SET', answer, '', 'PX', remember)
if #ARGV > 4 + count then wake_pacers(pacers, wake, now) end
return 1

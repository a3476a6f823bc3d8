-- fall_due: make timers due that wait for a user's key, and not for a time.
-- KEYS: due pacers, then the trigger keys
-- ARGV: never wake, then the members
--   never: the due time (ms) by which they are known
-- RETURNS: how many; one that was cancelled, replaced or moved meanwhile isn't
local due_index, pacers = KEYS[1], KEYS[2]
local never, wake = ARGV[1], ARGV[2]
check({due_index}, {})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local fallen = 0
for i = 3, #ARGV do
  if tonumber(redis.call('ZSCORE', due_index, ARGV[i]) or '0') == tonumber(never) then
    -- ZREM comes before ZADD: it frees memory, after which a full Redis lets the script write
    redis.call('ZREM', due_index, ARGV[i])
    redis.call('ZADD', due_index, string.format('%.0f', now + 1), ARGV[i])
    redis.call('SET', KEYS[i], '0', 'PX', 1)
    fallen = fallen + 1
  end
end
if fallen > 0 then wake_pacers(pacers, wake, now + 1) end
return fallen

-- the pacers that announced to wake later hear of it; without the right to publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.call('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
-- enter: record whose namespace this is, unless it is somebody's already.
-- KEYS: namespace
-- ARGV: format app broker adopt
--   adopt: "1" to take it over whoever has it
-- RETURNS: {format, app, broker} as recorded
local namespace, fields = KEYS[1], {'format', 'app', 'broker'}
local recorded = redis.call('HMGET', namespace, unpack(fields))
for i, field in ipairs(fields) do
  if not recorded[i] or ARGV[4] == '1' then
    -- a full Redis may refuse this; a worker must start all the same, since firing is what frees memory
    redis.pcall('HSET', namespace, field, ARGV[i])
    recorded[i] = ARGV[i]
  end
end
return recorded

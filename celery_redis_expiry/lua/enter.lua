-- enter: record whose namespace this is, unless it is somebody's already.
-- KEYS: namespace
-- ARGV: format app broker adopt
--   adopt: "1" to take it over whoever has it
-- RETURNS: {format, app, broker} as recorded
local namespace = KEYS[1]
for i, field in ipairs({'format', 'app', 'broker'}) do
  if ARGV[4] == '1' then redis.call('HSET', namespace, field, ARGV[i])
  else redis.call('HSETNX', namespace, field, ARGV[i]) end
end
return redis.call('HMGET', namespace, 'format', 'app', 'broker')

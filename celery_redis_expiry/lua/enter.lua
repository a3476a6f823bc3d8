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

-- enter: record whose namespace this is, unless it is somebody's already.
-- KEYS: namespace
-- ARGV: adopt, then pairs of field and value; an empty value only asks
--   adopt: "1" to take it over whoever has it
-- RETURNS: what is recorded now, in order, "" where nothing is
local namespace, adopt = KEYS[1], ARGV[1] == '1'
local before = redis.call('EXISTS', namespace) == 1
local recorded = {}
for a = 2, #ARGV, 2 do
  local field, value = ARGV[a], ARGV[a + 1]
  local known = redis.call('HGET', namespace, field)
  -- the release before shards recorded no number: it had one
  if field == 'shards' and before and not known then known = '1' end
  -- the number of shards is no matter of whose they are
  if value ~= '' and (not known or adopt and field ~= 'shards') then
    -- a full Redis may refuse this; a worker must start all the same, since firing is what frees memory
    redis.pcall('HSET', namespace, field, value)
    known = value
  end
  recorded[#recorded + 1] = known or ''
end
return recorded

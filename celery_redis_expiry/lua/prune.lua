-- prune: forget templates that no stored message has.
-- KEYS: templates used
-- ARGV: before, then their names
--   before: ms; what was used later is in use
-- RETURNS: how many were forgotten
local templates, used = KEYS[1], KEYS[2]
check({used}, {templates})
local pruned = 0
for a = 2, #ARGV do
  if tonumber(redis.call('ZSCORE', used, ARGV[a]) or '0') < tonumber(ARGV[1]) then
    redis.call('ZREM', used, ARGV[a])
    redis.call('HDEL', templates, ARGV[a])
    pruned = pruned + 1
  end
end
return pruned

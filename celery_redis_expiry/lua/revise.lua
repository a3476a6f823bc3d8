-- revise: give a recurring timer another message; when it is due, and what is known of its occurrences, stays.
-- KEYS: timers
-- ARGV: member seen record
--   seen: SHA1 of the stored message that the caller reckoned with
-- RETURNS: 1 if it was given, or has it already; 0 if it was changed meanwhile
local timers = KEYS[1]
local member, seen, record = ARGV[1], ARGV[2], ARGV[3]
local stored = redis.call('HGET', timers, member)
if stored == record then return 1 end
if not stored or redis.sha1hex(stored) ~= seen then return 0 end
redis.call('HSET', timers, member, record)
return 1

-- bury: move a claimed timer that can't be published to the dead letters; its stored message stays.
-- KEYS: names ids claimed claims dead reasons
-- ARGV: token member label id reason
-- RETURNS: 1 if it was buried, by this call or, as far as the reason tells, by the one that it repeats; 0 if it isn't
--   this claim's
local names, ids, claimed, claims, dead, reasons = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, member, label, id, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
check({claimed, dead}, {names, ids, claims, reasons})
local place = place_of(member)
if string.match(redis.call('HGET', claims, place) or '', '^([^:]*):') ~= token then
  return redis.call('ZSCORE', dead, place) and redis.call('HGET', reasons, place) == reason and 1 or 0
end
local t = redis.call('TIME')
redis.call('ZREM', claimed, place)
redis.call('HDEL', claims, place)
if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
redis.call('ZADD', dead, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), place)
redis.call('HSET', reasons, place, reason)
return 1

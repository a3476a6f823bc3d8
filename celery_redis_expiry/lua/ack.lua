-- ack: forget timers whose message the broker has.
-- KEYS: timers names ids claimed claims
-- ARGV: token, then per timer: member label id
-- RETURNS: how many were acked; one that another worker has claimed meanwhile isn't
local timers, names, ids, claimed, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, acked = ARGV[1], 0
check({claimed}, {timers, names, ids, claims})
for a = 2, #ARGV, 3 do
  local member, label, id = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local place = place_of(member)
  if string.match(redis.call('HGET', claims, place) or '', '^([^:]*):') == token then
    redis.call('HDEL', timers, place)
    redis.call('ZREM', claimed, place)
    redis.call('HDEL', claims, place)
    if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
    if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
    acked = acked + 1
  end
end
return acked

-- ack: forget timers whose message the broker has.
-- KEYS: timers names ids claimed claims
-- ARGV: token, then per timer: member label id; a compact one has neither a name nor its id recorded: "" for both
-- RETURNS: how many were acked; one that another worker has claimed meanwhile isn't
local timers, names, ids, claimed, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, places, acked = ARGV[1] .. ':', {}, {}
check({claimed}, {timers, names, ids, claims})
for a = 2, #ARGV, 3 do places[#places + 1] = place_of(ARGV[a]) end
for i, claim in ipairs(redis.call('HMGET', claims, unpack(places))) do
  local member, label, id = unpack(ARGV, 3 * i - 1, 3 * i + 1)
  if string.sub(claim or '', 1, #token) == token then
    acked[#acked + 1] = places[i]
    if label ~= '' and redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
    if id ~= '' and redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
  end
end
if acked[1] then
  redis.call('HDEL', timers, unpack(acked))
  redis.call('ZREM', claimed, unpack(acked))
  return redis.call('HDEL', claims, unpack(acked))
end
return 0

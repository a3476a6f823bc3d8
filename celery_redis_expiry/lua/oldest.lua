-- oldest: read what is due with its stored messages, the oldest first, then some of the newest.
-- KEYS: due timers
-- ARGV: limit newest
-- RETURNS: {lengths, places, records}: the places, and the stored messages, one behind the other; lengths: of each place
--   and its stored message, bytes, with spaces between them
local due_index, timers, limit, newest = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2]
local t = redis.call('TIME')
-- a key lives until now > due, so what is due at this very millisecond isn't yet
local before = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) - 1)
local places = redis.call('ZRANGEBYSCORE', due_index, '-inf', before, 'LIMIT', 0, limit)
if #places >= limit then
  local latest = redis.call('ZREVRANGEBYSCORE', due_index, before, '-inf', 'LIMIT', 0, newest)
  for _, place in ipairs(latest) do places[#places + 1] = place end
end
local lengths, records = {}, {}
for first = 1, #places, 500 do
  local some = redis.call('HMGET', timers, unpack(places, first, math.min(first + 499, #places)))
  for _, record in ipairs(some) do records[#records + 1] = record or '' end
end
for i, place in ipairs(places) do
  lengths[2 * i - 1], lengths[2 * i] = #place, #records[i]
end
return {table.concat(lengths, ' '), table.concat(places), table.concat(records)}

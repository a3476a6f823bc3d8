-- oldest: read what is due with its stored messages, the oldest, and before them some of the newest where there are more.
-- KEYS: due timers
-- ARGV: limit newest
-- RETURNS: {lengths, places, records}: the places, and the stored messages, one behind the other; lengths: of each place
--   and its stored message, bytes, with spaces between them. Fewer than there are, where they are large
local due_index, timers, limit, newest = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2]
local t = redis.call('TIME')
-- a key lives until now > due, so what is due at this very millisecond isn't yet
local before = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) - 1)
local oldest, places = redis.call('ZRANGEBYSCORE', due_index, '-inf', before, 'LIMIT', 0, limit), {}
if #oldest >= limit then places = redis.call('ZREVRANGEBYSCORE', due_index, before, '-inf', 'LIMIT', 0, newest) end
for _, place in ipairs(oldest) do places[#places + 1] = place end
local lengths, records, size = {}, {}, 0
for first = 1, #places, 100 do
  if size > 1e6 then break end
  local some = redis.call('HMGET', timers, unpack(places, first, math.min(first + 99, #places)))
  for _, record in ipairs(some) do
    records[#records + 1] = record or ''
    size = size + #records[#records]
  end
end
for i, record in ipairs(records) do
  lengths[2 * i - 1], lengths[2 * i] = #places[i], #record
end
return {table.concat(lengths, ' '), table.concat(places, '', 1, #records), table.concat(records)}

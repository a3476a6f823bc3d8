-- a key that somebody made another type fails a script here, before its first write: all of it or nothing
local function check(sorted_sets, hashes)
  for _, key in ipairs(sorted_sets) do redis.call('ZCARD', key) end
  for _, key in ipairs(hashes) do redis.call('HLEN', key) end
end

-- holder, due and attempts of a claim, and ':?' where the broker may have the message, and nobody knows; nil
-- where it can't be read: no damage to it puts the timer off
local function read_claim(claim, now)
  local holder, due, attempts, unsure = string.match(claim or '', '^([^:]*):(%d+):(%d+)(:?%??)$')
  if holder then return holder, math.min(tonumber(due), now), math.min(tonumber(attempts), 1e6), unsure end
end

-- the number of shards, where it is another than the caller reckons with: he looks for timers elsewhere
local function recut(namespace, shards)
  local recorded = redis.pcall('HGET', namespace, 'shards')
  if type(recorded) == 'string' and recorded ~= shards then return recorded end
end

-- whether a timer is beyond recall although it is not claimed
local function is_unsure(claim)
  return string.sub(claim or '', -2) == ':?'
end

-- who puts a timer into the due index tells the pacers that announced to wake later; without the right to
-- publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.pcall('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
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

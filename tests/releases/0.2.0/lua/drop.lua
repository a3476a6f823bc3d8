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
-- drop: forget a timer or dead letter that was put into another shard.
-- KEYS: due timers names ids parked claims dead reasons trigger answer
-- ARGV: remember_ms member label id
-- RETURNS: 1 if it was here still, 0 if somebody cancelled it meanwhile
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claims, dead, reasons, trigger, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local remember, member, label, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
check({due_index, parked, dead}, {timers, names, ids, claims, reasons})
local here = redis.call('ZREM', due_index, member) + redis.call('ZREM', parked, member) + redis.call('ZREM', dead, member)
-- the repetition of a call whose reply was lost; or somebody has it claimed: what is stored is theirs then
if here == 0 then return redis.call('EXISTS', answer) end
redis.call('DEL', trigger)
redis.call('HDEL', timers, member)
redis.call('HDEL', claims, member)
redis.call('HDEL', reasons, member)
if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
redis.call('SET', answer, '', 'PX', remember)
return 1

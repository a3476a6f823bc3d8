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
-- cancel: forget a waiting timer; one that is claimed, or that the broker may have, is beyond recall.
-- KEYS: due timers names ids parked claimed claims answer trigger namespace
-- ARGV: remember_ms member label shards
-- RETURNS: cancelled | claimed | gone; or the number of shards, where there is another number of them by now
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, answer, trigger = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local remember, member, label = ARGV[1], ARGV[2], ARGV[3]
check({due_index, parked, claimed}, {timers, names, ids, claims})

local answered = redis.call('GET', answer)
if answered then return answered end
local cut = recut(KEYS[10], ARGV[4])
if cut then return cut end
if redis.call('ZSCORE', claimed, member) then return 'claimed' end
if not redis.call('ZSCORE', due_index, member) and not redis.call('ZSCORE', parked, member) then return 'gone' end
if is_unsure(redis.call('HGET', claims, member)) then return 'claimed' end

local record = redis.call('HGET', timers, member)
redis.call('ZREM', due_index, member)
redis.call('ZREM', parked, member)
redis.call('DEL', trigger)
redis.call('HDEL', timers, member)
redis.call('HDEL', claims, member)
if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
local _, stop, length = string.find(record or '', '^%d+:(%d+):')
if stop then
  local id = string.sub(record, stop + 1, stop + length)
  if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
end
redis.call('SET', answer, 'cancelled', 'PX', remember)
return 'cancelled'

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

-- the task id in a stored message; '' where that is damaged
local function id_of(record)
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  return stop and string.sub(record, stop + 1, stop + length) or ''
end

-- whether a stored message has a guard, without whose word it must not be published
local function is_guarded(record)
  return string.sub(record, 1, 2) == '2:'
end

-- when the first call of a debounce was, ms, as `stamped` wrote it into a stored message; nil where it did not
local function since_of(record)
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  return stop and tonumber(string.match(record, '^{"since":(%d+),', stop + length + 1))
end

-- a stored message with that time first in its JSON, in place of an older one; with none for nil
local function stamped(record, since)
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  local body = stop and string.match(record, '^{(.+)$', stop + length + 1)
  if not body then return record end
  local stamp = since and string.format('"since":%.0f,', since) or ''
  return string.sub(record, 1, stop + length) .. '{' .. stamp .. string.gsub(body, '^"since":%d+,', '')
end

-- the score of a timer that waits, whether its trigger key has a TTL or not
local function waiting(due_index, parked, member)
  return redis.call('ZSCORE', due_index, member) or redis.call('ZSCORE', parked, member)
end

-- forget a timer that waits, all but its name and task id, which may mean another generation by now
local function forget(due_index, parked, timers, claims, trigger, member)
  redis.call('DEL', trigger)
  redis.call('ZREM', due_index, member)
  redis.call('ZREM', parked, member)
  redis.call('HDEL', timers, member)
  redis.call('HDEL', claims, member)
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

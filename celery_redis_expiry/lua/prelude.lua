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

-- why nothing may be stored, as {{status, "0", about, ""}}: the namespace is another app's (foreign), has another number
-- of shards (shards), or see `check_templates`; else nil, and the number of shards that is recorded
local function refusal(namespace, app, shards, templates, brought)
  local recorded = redis.call('HMGET', namespace, 'app', 'shards')
  local problem, about = check_templates(templates, brought)
  if recorded[1] and recorded[1] ~= app then problem, about = 'foreign', recorded[1] end
  -- who reckons with another number of shards looks for this timer elsewhere
  if recorded[2] and recorded[2] ~= shards then problem, about = 'shards', recorded[2] end
  if problem then return {{problem, '0', about, ''}} end
  return nil, recorded[2]
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

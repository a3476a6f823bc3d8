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
-- schedule: store timers and arm them; replaces, keeps, extends or moves what has the same name or id.
-- KEYS: due timers names ids parked claimed claims pacers namespace answer, then per timer: trigger expected_trigger
-- ARGV: app remember_ms wake latest_ms shards, then per timer: mode when member name id expected record
--   mode: replace keep extend raise move; when: "+ms" from now or "=ms" since the epoch; expected: the member
--   that the caller believes to be the present one ("" for none), whose trigger key is expected_trigger
-- RETURNS: per timer {status, due, member, id}; status: scheduled kept extended exists again missing late foreign shards
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, pacers, namespace, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local app, remember, wake, latest, shards = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

check({due_index, parked, claimed}, {timers, names, ids, claims, namespace})
local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end

local recorded = redis.call('HMGET', namespace, 'app', 'shards')
local owner, cut = recorded[1], recorded[2]
if owner and owner ~= app then return {{'foreign', '0', owner, ''}} end
-- who reckons with another number of shards looks for this timer elsewhere
if cut and cut ~= shards then return {{'shards', '0', cut, ''}} end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function id_of(record)
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  return stop and string.sub(record, stop + 1, stop + length) or ''
end

local function schedule(k, a)
  local trigger, expected_trigger = KEYS[k], KEYS[k + 1]
  local mode, when, member, name = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local id, expected, record = ARGV[a + 4], ARGV[a + 5], ARGV[a + 6]

  local due = tonumber(string.sub(when, 2))
  if string.sub(when, 1, 1) == '+' then due = now + due end
  if due > latest then return {'late', '0', '', ''} end
  local due_text = string.format('%.0f', due)

  local current
  if mode == 'move' or name == '' then current = redis.call('HGET', ids, id)
  else current = redis.call('HGET', names, name) end
  local old_due = current and (redis.call('ZSCORE', due_index, current) or redis.call('ZSCORE', parked, current))
  local firing = current and not old_due and redis.call('ZSCORE', claimed, current)
  if current and not old_due and not firing then current = false end
  if mode == 'move' and not current then return {'missing', '0', '', ''} end

  if current == member then return {'scheduled', old_due or due_text, member, id} end

  local status, old_record = 'scheduled', current and (redis.call('HGET', timers, current) or '')
  if old_due then
    if mode == 'keep' then return {'kept', old_due, current, id_of(old_record)} end
    if mode == 'raise' or (name == '' and mode ~= 'move') then return {'exists', old_due, current, id_of(old_record)} end
  end
  -- what the broker may have is left to finish, like what is claimed
  if old_due and is_unsure(redis.call('HGET', claims, current)) then old_due = false end
  if mode ~= 'move' then
    -- two waiting timers under one task id would share one result: refused, whatever their names
    local namesake = redis.call('HGET', ids, id)
    local namesake_due = namesake and namesake ~= current
      and (redis.call('ZSCORE', due_index, namesake) or redis.call('ZSCORE', parked, namesake))
    if namesake_due then return {'exists', namesake_due, namesake, id} end
  end
  if current and (mode == 'move' or mode == 'extend' and old_record ~= '') then
    if current ~= expected then return {'again', '0', current, ''} end
    record, status = old_record, 'extended'
    if id_of(old_record) ~= '' then id = id_of(old_record) end
  elseif old_due and current ~= expected then
    return {'again', '0', current, ''}
  end

  -- the first write is one that a full Redis refuses, so that it refuses all of them
  if not cut then redis.call('HSET', namespace, 'shards', shards) end
  redis.call('HSET', timers, member, record)
  redis.call('ZADD', due_index, due_text, member)
  if due > now then redis.call('SET', trigger, '', 'PXAT', due_text) end
  if name ~= '' and (mode ~= 'move' or redis.call('HGET', names, name) == current) then
    redis.call('HSET', names, name, member)
  end
  redis.call('HSET', ids, id, member)
  if old_due then
    redis.call('DEL', expected_trigger)
    redis.call('ZREM', due_index, current)
    redis.call('ZREM', parked, current)
    redis.call('HDEL', timers, current)
    redis.call('HDEL', claims, current)
    local old_id = id_of(old_record)
    if old_id ~= id and redis.call('HGET', ids, old_id) == current then redis.call('HDEL', ids, old_id) end
  end
  -- a key with a past expiry would be deleted without an expired event
  if due <= now then redis.pcall('PUBLISH', wake, '!' .. member) end
  return {status, due_text, member, id, due}
end

local outcomes, earliest = {}, nil
local k = 11
for a = 6, #ARGV, 7 do
  local outcome = schedule(k, a)
  local due = table.remove(outcome, 5)
  if due and (not earliest or due < earliest) then earliest = due end
  outcomes[#outcomes + 1] = outcome
  k = k + 2
end
if earliest then
  redis.call('SET', answer, cjson.encode(outcomes), 'PX', remember)
  wake_pacers(pacers, wake, earliest)
end
return outcomes

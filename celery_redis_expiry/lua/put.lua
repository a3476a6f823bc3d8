-- put: put timers or dead letters of elsewhere here, as they lay there; repeating it does no harm.
-- KEYS: due timers names ids parked claimed claims dead reasons pacers namespace, then the trigger keys
-- ARGV: shards wake, then per timer: member label id home score expiry named known record claim reason
--   shards: how many the caller reckons with, or "" while they are moved; then whatever is here is put once more
--   home: due parked dead; expiry: of its trigger key, ms since the epoch, "-" for a key without TTL, "" for no key;
--   named, known: "1" where the name, the task id, means this very member
-- RETURNS: per timer {status, member}: put; here, where it is already; taken, with the member that waits under its
--   name or task id; or {{"shards", number}}, where there is another number of them by now
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, dead, reasons, pacers = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local shards, wake = ARGV[1], ARGV[2]
local homes = {due = due_index, parked = parked, dead = dead}
check({due_index, parked, claimed, dead}, {timers, names, ids, claims, reasons})
local cut = shards ~= '' and recut(KEYS[11], shards)
if cut then return {{'shards', cut}} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function waits(member)
  return member and (redis.call('ZSCORE', due_index, member) or redis.call('ZSCORE', parked, member)
    or redis.call('ZSCORE', claimed, member))
end

local function put(trigger, a)
  local member, label, id, home, score, expiry = unpack(ARGV, a, a + 5)
  local named, known, record, claim, reason = unpack(ARGV, a + 6, a + 10)
  if shards ~= '' then
    if waits(member) or redis.call('ZSCORE', dead, member) then return {'here', member} end
    local namesake = named == '1' and redis.call('HGET', names, label)
    if not waits(namesake) then namesake = known == '1' and redis.call('HGET', ids, id) end
    if waits(namesake) then return {'taken', namesake} end
  end
  -- the first write is one that a full Redis refuses, so that it refuses all of them
  redis.call('HSET', timers, member, record)
  redis.call('ZADD', homes[home], score, member)
  if named == '1' then redis.call('HSET', names, label, member) end
  if known == '1' then redis.call('HSET', ids, id, member) end
  if claim ~= '' then redis.call('HSET', claims, member, claim) end
  if reason ~= '' then redis.call('HSET', reasons, member, reason) end
  if expiry == '-' then redis.call('SET', trigger, '')
  -- a key with a past expiry would be deleted without an expired event
  elseif expiry ~= '' and tonumber(expiry) > now then redis.call('SET', trigger, '', 'PXAT', expiry) end
  return {'put', member}
end

local answers, earliest = {}, nil
for k = 12, #KEYS do
  local a = 3 + (k - 12) * 11
  local answer = put(KEYS[k], a)
  answers[#answers + 1] = answer
  local score = tonumber(ARGV[a + 4])
  if answer[1] == 'put' and ARGV[a + 3] == 'due' and (not earliest or score < earliest) then earliest = score end
end
-- while timers are moved no worker runs
if shards ~= '' then wake_pacers(pacers, wake, earliest) end
return answers

-- put: put timers or dead letters of elsewhere here, as they lay there; repeating it does no harm.
-- KEYS: due timers names ids parked claimed claims dead reasons pacers namespace templates used, then the trigger keys
-- ARGV: shards wake brought, then as many pairs of a template's name and text (see `keep_templates`), then per timer:
--   member label id home score expiry named known record claim reason uuid
--   shards: how many the caller reckons with, or "" while they are moved; then whatever is here is put once more
--   home: due parked dead; expiry: of its trigger key, ms since the epoch, "-" for a key without TTL, "" for no key;
--   named, known: "1" where the name, the task id, means this very member; uuid: of the task id, \1 and 16 bytes, or ""
-- RETURNS: per timer {status, member}: put; here, where it is already; taken, with the member that waits under its
--   name or task id; plain, where it can't be compact; or {{"shards", number}}, where there is another number of them
--   by now; or {{"lacking" or "clash", template}}, and nothing is done
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, dead, reasons, pacers = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local shards, wake, templates, used = ARGV[1], ARGV[2], KEYS[12], KEYS[13]
local brought = {unpack(ARGV, 4, 3 + 2 * ARGV[3])}
local homes = {due = due_index, parked = parked, dead = dead}
check({due_index, parked, claimed, dead, used}, {timers, names, ids, claims, reasons, templates})
local cut = shards ~= '' and recut(KEYS[11], shards)
if cut then return {{'shards', cut}} end
local problem, about = check_templates(templates, brought)
if problem then return {{problem, about}} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function waits(member)
  local place = member and place_of(member)
  return place and (redis.call('ZSCORE', due_index, place) or redis.call('ZSCORE', parked, place)
    or redis.call('ZSCORE', claimed, place))
end

local function put(trigger, a)
  local member, label, id, home, score, expiry = unpack(ARGV, a, a + 5)
  local named, known, record, claim, reason, uuid = unpack(ARGV, a + 6, a + 11)
  local place = place_of(member)
  if shards ~= '' then
    if record_of(timers, member) and (waits(member) or redis.call('ZSCORE', dead, place)) then return {'here', member} end
    local namesake = named == '1' and redis.call('HGET', names, label)
    if not waits(namesake) then namesake = known == '1' and member_with(ids, timers, id, uuid) end
    if waits(namesake) then return {'taken', namesake} end
    if place ~= member and redis.call('HGET', timers, place) then return {'plain', member} end
  end
  -- the first write is one that a full Redis refuses, so that it refuses all of them
  redis.call('HSET', timers, place, record)
  redis.call('ZADD', homes[home], score, place)
  if named == '1' then redis.call('HSET', names, label, member) end
  if known == '1' and place == member then redis.call('HSET', ids, id, member) end
  if claim ~= '' then redis.call('HSET', claims, place, claim) end
  if reason ~= '' then redis.call('HSET', reasons, place, reason) end
  if expiry == '-' then redis.call('SET', trigger, '0')
  -- a key with a past expiry would be deleted without an expired event
  elseif expiry ~= '' and tonumber(expiry) > now then redis.call('SET', trigger, '0', 'PXAT', expiry) end
  return {'put', member}
end

local answers, earliest = {}, nil
keep_templates(templates, used, brought, now)
for k = 14, #KEYS do
  local a = 4 + #brought + (k - 14) * 12
  local answer = put(KEYS[k], a)
  answers[#answers + 1] = answer
  local score = tonumber(ARGV[a + 4])
  if answer[1] == 'put' and ARGV[a + 3] == 'due' and (not earliest or score < earliest) then earliest = score end
end
-- while timers are moved no worker runs
if shards ~= '' then wake_pacers(pacers, wake, earliest) end
return answers

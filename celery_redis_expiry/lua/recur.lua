-- recur: arm recurring timers that are due for their next instants, each with an occurrence, due at once, unless the
--   task of its last one is not known to have ended.
-- KEYS: due timers ids parked claims pacers templates used, then per timer: its trigger key, the key that tells of its
--   running task
-- ARGV: wake brought, then as many pairs of a template's name and text (see `keep_templates`), then per timer: member
--   expired seen next fired skipped bound occurrence id due record
--   expired: "1" where an event said that the trigger key has expired; seen: SHA1 of the stored message that the caller
--   reckoned with; next: when it is due next, ms; fired, skipped: what it then knows of its occurrences; bound: for how
--   long its task is awaited, ms, "" not at all; occurrence, id, due, record: the member, task id, due time and stored
--   message of the occurrence
-- RETURNS: per timer "fired"; "skipped" and the task id that is awaited; or "" where nothing was done: it was changed
--   meanwhile, or another worker was faster. In a repeated call "fired" while the occurrence waits or is claimed. Or
--   one for all, {"lacking" or "clash", template}, and nothing is done
local due_index, timers, ids, parked, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local templates, used, wake = KEYS[7], KEYS[8], ARGV[1]
local brought = {unpack(ARGV, 3, 2 + 2 * ARGV[2])}
check({due_index, parked, used}, {timers, ids, claims, templates})
local problem, about = check_templates(templates, brought)
if problem then return {{problem, about}} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local earliest

local function recur(k, a)
  local trigger, running = KEYS[k], KEYS[k + 1]
  local member, expired, seen, upcoming, fired, skipped, bound, occurrence, id, due, record = unpack(ARGV, a, a + 10)
  if redis.call('HGET', timers, occurrence) then return 'fired' end
  local stored = redis.call('HGET', timers, member)
  if not stored or redis.sha1hex(stored) ~= seen then return '' end
  local score, home = redis.call('ZSCORE', due_index, member), due_index
  if not score then score, home = redis.call('ZSCORE', parked, member), parked end
  if not score or redis.call('PTTL', trigger) ~= -2 then return '' end
  if expired ~= '1' and (home == parked or tonumber(score) > now) then return '' end
  local _, stop, length = string.find(stored, '^5:(%d+):')
  local line_end = stop and string.find(stored, '\n', stop + length, true)
  if not line_end then return '' end
  -- a key that somebody made another type holds no other timer up
  local awaited = bound ~= '' and redis.pcall('GET', running)
  awaited = type(awaited) == 'string' and awaited ~= '' and awaited
  local head, message = string.sub(stored, 1, stop + length), string.sub(stored, line_end)
  -- ZREM comes first: it frees memory, after which a full Redis lets the script write
  redis.call('ZREM', home, member)
  redis.call('HDEL', claims, member)
  redis.call('HSET', timers, member, head .. (awaited and skipped or fired) .. message)
  redis.call('ZADD', due_index, upcoming, member)
  if tonumber(upcoming) > now then redis.call('SET', trigger, '0', 'PXAT', upcoming) end
  local first = math.min(tonumber(upcoming), awaited and math.huge or tonumber(due))
  if not earliest or first < earliest then earliest = first end
  if awaited then return 'skipped' .. awaited end
  redis.call('HSET', timers, occurrence, record)
  redis.call('HSET', ids, id, occurrence)
  redis.call('ZADD', due_index, due, occurrence)
  if bound ~= '' then redis.call('SET', running, id, 'PX', bound) end
  return 'fired'
end

local outcomes, k = {}, 9
for a = 3 + #brought, #ARGV, 11 do
  outcomes[#outcomes + 1] = recur(k, a)
  k = k + 2
end
-- what may need memory comes last
if earliest then keep_templates(templates, used, brought, now) end
wake_pacers(pacers, wake, earliest)
return outcomes

-- add: store new timers that have no name and are compact: all of them or none, many at once.
-- KEYS: due timers ids pacers namespace answer templates used, then per timer: trigger
-- ARGV: app remember_ms wake latest_ms shards brought, then as many pairs of a template's name and text (see
--   `keep_templates`), then per timer: when stored
--   when: "+ms" from now or "=ms" since the epoch; stored: its member (see `place_of`), its template's name, the rest
-- RETURNS: their due times, a space between; or "", and nothing is done, where one may not be new: `schedule` sees to
--   it; or {{status, "0", about, ""}}, and nothing is done, see `refusal`
local due_index, timers, ids, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local namespace, answer, templates, used = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local remember, wake, latest, shards = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local brought = {unpack(ARGV, 7, 6 + 2 * ARGV[6])}

-- the hashes fail when they are read
check({due_index, used}, {})
local answered = redis.call('GET', answer)
if answered then return answered end
local refused, recorded = refusal(namespace, ARGV[1], shards, templates, brought)
if refused then return refused end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local known, records, scores, dues, told, places, taken, earliest = {}, {}, {}, {}, {}, {}, {}, latest
for i = 1, #KEYS - 8 do
  local a = 2 * i + 5 + #brought
  local when, stored = ARGV[a], ARGV[a + 1]
  local text, place = string.sub(when, 2), string.sub(stored, 1, 12)
  local due = tonumber(text)
  if string.byte(when) == 43 then
    due = now + due
    text = string.format('%.0f', due)
  end
  if due > latest or taken[place] then return '' end
  if due < earliest then earliest = due end
  -- its name ends in the task id
  known[i], places[i], dues[i], told[i] = string.sub(KEYS[8 + i], -36), place, due, text
  scores[2 * i - 1], scores[2 * i] = text, place
  records[2 * i - 1], records[2 * i] = place, '\3' .. string.sub(stored, 13)
  taken[place] = true
end
local members, there = redis.call('HMGET', ids, unpack(known)), redis.call('HMGET', timers, unpack(places))
for i = 1, #places do
  if members[i] or there[i] then return '' end
end

-- the first write is one that a full Redis refuses, so that it refuses all of them
if not recorded then redis.call('HSET', namespace, 'shards', shards) end
keep_templates(templates, used, brought, now)
redis.call('HSET', timers, unpack(records))
redis.call('ZADD', due_index, unpack(scores))
for i, due in ipairs(dues) do
  if due > now then redis.call('SET', KEYS[8 + i], '0', 'PXAT', told[i])
  -- a key with a past expiry would be deleted without an expired event
  else redis.pcall('PUBLISH', wake, '!' .. places[i] .. string.sub(records[2 * i], 2, 10)) end
end
answered = table.concat(told, ' ')
redis.call('SET', answer, answered, 'PX', remember)
wake_pacers(pacers, wake, earliest)
return answered

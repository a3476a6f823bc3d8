-- fire: put the messages of due timers into the broker's queues, which lie in this database, and forget the timers.
-- KEYS: due timers names ids claims envelopes answer, then the queues, then a trigger key per timer
-- ARGV: token remember_ms kind tag keep_ms queues brought, then as many pairs of a template's name and an envelope, then
--   per timer "1" and its member where an event said that the trigger key has expired, "0" and it where only the index
--   says so
--   kind: of the envelopes, stands before the template's name; tag: all but the last 8 digits of each delivery tag;
--   queues: how many KEYS; keep_ms: how long envelopes are kept from the last that was brought; an envelope: the SHA1 of
--   its JSON, and the JSON (see `worker.firing.envelopes`), or "" for messages that kombu must make
-- RETURNS: {now_ms, outcomes, dues, unknown}: outcomes: a sign for each timer: f fired; - nothing to do; e must be
--   claimed: it has moved, or its message can't be made here; u for want of its envelope. dues: of those that fired, ms;
--   unknown: the templates whose envelopes are. Of a repeated call: the first answer
local due_index, timers, names, ids, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local envelopes, answer, remember, kind, tag, keep = KEYS[6], KEYS[7], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local triggers, first = 8 + ARGV[6], 8 + 2 * ARGV[7]
local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end
check({due_index}, {timers, names, ids, claims, envelopes})
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local known, pushes, unknown, places, outcomes, dues, gone, taken = {}, {}, {}, {}, {}, {}, {}, {}
for k = 8, triggers - 1 do pushes[KEYS[k]] = {} end
for a = first, #ARGV do places[#places + 1] = place_of(string.sub(ARGV[a], 2)) end
local records, scores = redis.call('HMGET', timers, unpack(places)), redis.call('ZMSCORE', due_index, unpack(places))
local claimed = redis.call('HLEN', claims) > 0 and redis.call('HMGET', claims, unpack(places))
-- asking for a key whose time has come deletes it; as a rule all are gone, and one question is enough
local all_gone = redis.call('EXISTS', unpack(KEYS, triggers)) == 0

-- the envelope of messages by a template; else the sign for them
local function envelope_of(ref)
  local raw = redis.call('HGET', envelopes, kind .. ref) or ''
  for i = 8, first - 1, 2 do if ARGV[i] == ref then raw = ARGV[i + 1] end end
  local text, found = string.sub(raw, 41), 'u'
  if redis.sha1hex(text) == string.sub(raw, 1, 40) then found = text == '' and 'e' or cjson.decode(text) end
  if found.queue and not pushes[found.queue] then found = 'u' end
  if found == 'u' then unknown[#unknown + 1] = ref end
  known[ref] = found
  return found
end

local function fire(i, told)
  local member, place, record, due = string.sub(told, 2), places[i], records[i], scores[i]
  -- fired already; or its stored message is lost, for which the claim makes it a dead letter
  if taken[place] or not record then return due and not taken[place] and 'e' or '-' end
  -- an older generation, whose place another has by now
  if string.byte(member) == 1 and string.sub(record, 2, 10) ~= string.sub(member, 13) then return '-' end
  local body = due and templated(record)
  if not body or not (all_gone or redis.call('PTTL', KEYS[triggers + i - 1]) == -2) then return 'e' end
  if string.byte(told) ~= 49 and tonumber(due) > now then return '-' end
  local ref = string.sub(body, 1, 6)
  local envelope = known[ref] or envelope_of(ref)
  if type(envelope) == 'string' then return envelope end
  -- the trigger key of a compact member ends with its task id
  local id = string.byte(member) == 1 and string.sub(KEYS[triggers + i - 1], -36) or id_of(member, record)
  local message = message_of(envelope, id, body, string.format('%s%08x', tag, i))
  if not message then return 'e' end
  local push, claim, _, first_due = pushes[envelope.queue], claimed and claimed[i], nil, nil
  if claim then _, first_due = read_claim(claim, now) end
  push[#push + 1] = message
  taken[place] = true
  gone[#gone + 1] = place
  dues[#dues + 1] = first_due or due
  return 'f'
end

for a = first, #ARGV do outcomes[a - first + 1] = fire(a - first + 1, ARGV[a]) end
local told = {string.format('%.1f', now), table.concat(outcomes), table.concat(dues, ' '), unknown}
if not gone[1] and first == 8 then return told end
-- of another type, it fails here
for queue in pairs(pushes) do redis.call('LLEN', queue) end
-- the first write is one that a full Redis refuses, so that it refuses all of them
for queue, messages in pairs(pushes) do
  if messages[1] then redis.call('LPUSH', queue, unpack(messages)) end
end
for i, place in ipairs(places) do
  local member = string.sub(ARGV[first + i - 1], 2)
  if taken[place] and place == member then
    local label, id = label_of(member), id_of(member, records[i])
    if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
    if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
  end
end
if gone[1] then
  redis.call('ZREM', due_index, unpack(gone))
  redis.call('HDEL', timers, unpack(gone))
  if claimed then redis.call('HDEL', claims, unpack(gone)) end
end
for i = 8, first - 1, 2 do redis.call('HSET', envelopes, kind .. ARGV[i], ARGV[i + 1]) end
if first > 8 then redis.pcall('PEXPIRE', envelopes, keep) end
if gone[1] then redis.call('SET', answer, cjson.encode(told), 'PX', remember) end
return told

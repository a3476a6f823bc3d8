-- fire: put the messages of due timers into the broker's queues, which lie in this database, and forget the timers.
-- KEYS: due timers names ids claims answer, then the queues, then a trigger key per timer
-- ARGV: token remember_ms expired counts, then the members, then their stored messages, then the messages that were made
--   of these, which stand by queue
--   expired: of each timer "1" where an event said that its trigger key has expired, "0" where only the index says so;
--   counts: how many of the timers go to each queue. The last ones may go nowhere: they have no message
-- RETURNS: {now_ms, outcomes, dues}: outcomes: a sign for each timer: f fired; - nothing to do; e must be claimed: it has
--   moved, or its stored message is lost or another one by now. dues: of those that fired, ms. Of a repeated call: the
--   first answer
local due_index, timers, names, ids, claims, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local remember, expired, counts = ARGV[2], ARGV[3], ARGV[4]
local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end
check({due_index}, {timers, names, ids, claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local count, places, outcomes, dues, gone, fired, queues = #expired, {}, {}, {}, {}, {}, {}
local first_trigger = #KEYS - count + 1
for i = 1, count do places[i] = place_of(ARGV[4 + i]) end
local records, scores = redis.call('HMGET', timers, unpack(places)), redis.call('ZMSCORE', due_index, unpack(places))
local claimed = redis.call('HLEN', claims) > 0 and redis.call('HMGET', claims, unpack(places))
-- asking for a key whose time has come deletes it; as a rule all are gone, and one question is enough
local all_gone = redis.call('EXISTS', unpack(KEYS, first_trigger)) == 0

local function sign_of(i, place)
  local member, record, due = ARGV[4 + i], records[i], scores[i]
  -- fired already; or its stored message is lost, for which the claim makes it a dead letter
  if fired[place] or not record then return due and not fired[place] and 'e' or '-' end
  -- an older generation, whose place another has by now
  if string.byte(member) == 1 and string.sub(record, 2, 10) ~= string.sub(member, 13) then return '-' end
  if not due or record ~= ARGV[4 + count + i] then return 'e' end
  if not all_gone and redis.call('PTTL', KEYS[first_trigger + i - 1]) ~= -2 then return 'e' end
  return (string.byte(expired, i) == 49 or tonumber(due) <= now) and 'f' or '-'
end

for i, place in ipairs(places) do
  local sign = sign_of(i, place)
  outcomes[i] = sign
  if sign == 'f' then
    local claim, _, first_due = claimed and claimed[i], nil, nil
    if claim then _, first_due = read_claim(claim, now) end
    fired[place], gone[#gone + 1], dues[#dues + 1] = true, place, first_due or scores[i]
  end
end
local told = {string.format('%.1f', now), table.concat(outcomes), table.concat(dues, ' ')}
if not gone[1] then return told end

local last, key = 0, 6
for number in string.gmatch(counts, '%d+') do
  local messages = {}
  for i = last + 1, last + number do
    if outcomes[i] == 'f' then messages[#messages + 1] = ARGV[4 + 2 * count + i] end
  end
  last, key = last + number, key + 1
  -- of another type, it fails here
  redis.call('LLEN', KEYS[key])
  if messages[1] then queues[KEYS[key]] = messages end
end
-- the first write is one that a full Redis refuses, so that it refuses all of them
for queue, messages in pairs(queues) do redis.call('LPUSH', queue, unpack(messages)) end
for i, place in ipairs(places) do
  if outcomes[i] == 'f' and place == ARGV[4 + i] then
    local label, id = label_of(place), id_of(place, records[i])
    if redis.call('HGET', names, label) == place then redis.call('HDEL', names, label) end
    if redis.call('HGET', ids, id) == place then redis.call('HDEL', ids, id) end
  end
end
redis.call('ZREM', due_index, unpack(gone))
redis.call('HDEL', timers, unpack(gone))
if claimed then redis.call('HDEL', claims, unpack(gone)) end
redis.call('SET', answer, cjson.encode(told), 'PX', remember)
return told

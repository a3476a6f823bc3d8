-- rescue: messages of the broker become timers, and each leaves the broker in this very script.
-- KEYS: queue unacked unacked_index answer, then those of schedule
-- ARGV: remember_ms first last mark count, then per message: message tag, then those of schedule
--   first, last: the places in the queue among which they are looked for, see `lying`; mark: what no message is;
--   tag: its delivery tag where it is unacknowledged, "" where it lies in the queue
-- RETURNS: as schedule does; where a message is not there any more nothing is done, its status is gone, and that of
--   the others again
local queue, unacked, unacked_index, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local remember, first, last, mark, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
check({unacked_index}, {unacked})
local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end

local messages, tags, keys, args = {}, {}, {}, {}
for i = 1, count do messages[i], tags[i] = ARGV[4 + 2 * i], ARGV[5 + 2 * i] end
for k = 5, #KEYS do keys[k - 4] = KEYS[k] end
for a = 6 + 2 * count, #ARGV do args[#args + 1] = ARGV[a] end

local places, there = places_of(queue, first, last, messages)
for i, tag in ipairs(tags) do
  if tag ~= '' and redis.call('HGET', unacked, tag) == messages[i] then there = there + 1 places[i] = tag end
end
if there < count then
  local outcomes = {}
  for i = 1, count do outcomes[i] = {places[i] and 'again' or 'gone', '0', '', ''} end
  return outcomes
end

-- the first write is of this, and one that a full Redis refuses, so that it refuses all of them
local outcomes = run_schedule(keys, args)
local taken = {}
for i, outcome in ipairs(outcomes) do
  -- most are told in short, by their due time
  if type(outcome) == 'string' or outcome[1] == 'scheduled' then
    if tags[i] == '' then
      taken[#taken + 1] = places[i]
    else
      redis.call('HDEL', unacked, tags[i])
      redis.call('ZREM', unacked_index, tags[i])
    end
  end
end
take_out(queue, taken, mark)
redis.call('SET', answer, cjson.encode(outcomes), 'PX', remember)
return outcomes

-- hold: take messages of a broker as a consumer does: they are unacknowledged until somebody acks them.
-- KEYS: queue unacked unacked_index
-- ARGV: first last mark, then per message: message from tag entry
--   first, last: the places in the queue among which they are looked for, see `lying`; mark: what no message is;
--   from: the tag of one that another consumer held, "" where it lies in the queue; tag, entry: under what, and as
--   what, kombu keeps it with those that are unacknowledged; "" and "" to forget it
-- RETURNS: for each whether it was there: 1, also in a repetition of the call if it is held; else 0
local queue, unacked, unacked_index = KEYS[1], KEYS[2], KEYS[3]
local first, last, mark = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
check({unacked_index}, {unacked})
local messages = {}
for a = 4, #ARGV, 4 do messages[#messages + 1] = ARGV[a] end
local places = places_of(queue, first, last, messages)
local t = redis.call('TIME')
local answers, taken = {}, {}
for i, message in ipairs(messages) do
  local from, tag, entry = ARGV[1 + 4 * i], ARGV[2 + 4 * i], ARGV[3 + 4 * i]
  local there = from == '' and places[i] or from ~= '' and redis.call('HGET', unacked, from) == message
  if there and tag ~= '' then
    redis.call('HSET', unacked, tag, entry)
    redis.call('ZADD', unacked_index, t[1], tag)
  end
  if there and from == '' then
    taken[#taken + 1] = places[i]
  elseif there then
    redis.call('HDEL', unacked, from)
    redis.call('ZREM', unacked_index, from)
  end
  answers[i] = (there or tag ~= '' and redis.call('HEXISTS', unacked, tag) == 1) and 1 or 0
end
take_out(queue, taken, mark)
return answers

-- where messages lie in a broker's queue: their numbers → their places, of equal ones the first; and how many do.
-- first, last: the places among which they are looked for, counted from the end at which consumers take (-1 is the
-- next one): producers push at the other end, and shift nothing by that
local function places_of(queue, first, last, messages)
  local length, wanted, places, found = redis.call('LLEN', queue), {}, {}, 0
  for i, message in ipairs(messages) do wanted[message] = i end
  first, last = math.max(0, length + first), length + last
  if last < 0 then return places, 0 end
  for offset, message in ipairs(redis.call('LRANGE', queue, first, last)) do
    local i = wanted[message]
    if i and not places[i] then places[i], found = first + offset - 1, found + 1 end
  end
  return places, found
end

-- take what lies at these places out of a queue, in one walk from its nearer end: LREM of each message by itself
-- would walk through the queue for every one
local function take_out(queue, places, mark)
  if #places == 0 then return end
  for _, place in ipairs(places) do redis.call('LSET', queue, place, mark) end
  local nearer = places[1] * 2 > redis.call('LLEN', queue) and -1 or 1
  redis.call('LREM', queue, nearer * #places, mark)
end

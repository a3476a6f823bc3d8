-- cancel: forget waiting timers; one that is claimed, or that the broker may have, is beyond recall.
-- KEYS: due timers names ids parked claimed claims answer namespace, then the trigger keys
-- ARGV: remember_ms shards, then the members
-- RETURNS: per member cancelled:<task id> | claimed | gone; or {number}, where there is another number of shards by now
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, answer = KEYS[6], KEYS[7], KEYS[8]
local remember, shards = ARGV[1], ARGV[2]
check({due_index, parked, claimed}, {timers, names, ids, claims})

local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end
local cut = recut(KEYS[9], shards)
if cut then return {cut} end

local function cancel(member, trigger)
  local place, record = place_of(member), record_of(timers, member)
  if not record then return 'gone' end
  if redis.call('ZSCORE', claimed, place) then return 'claimed' end
  if not waiting(due_index, parked, member) then return 'gone' end
  if is_unsure(redis.call('HGET', claims, place)) then return 'claimed' end
  forget(due_index, parked, timers, claims, trigger, member)
  local label = label_of(member)
  if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
  local id = id_of(member, record)
  if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
  return 'cancelled:' .. id
end

local outcomes, changed = {}, false
for a = 3, #ARGV do
  local outcome = cancel(ARGV[a], KEYS[a + 7])
  outcomes[#outcomes + 1] = outcome
  changed = changed or string.sub(outcome, 1, 9) == 'cancelled'
end
if changed then redis.call('SET', answer, cjson.encode(outcomes), 'PX', remember) end
return outcomes

-- cancel: forget a waiting timer; one that is claimed, or that the broker may have, is beyond recall.
-- KEYS: due timers names ids parked claimed claims answer trigger namespace
-- ARGV: remember_ms member label shards
-- RETURNS: cancelled:<task id> | claimed | gone; or the number of shards, where there is another number of them by now
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, answer, trigger = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local remember, member, label = ARGV[1], ARGV[2], ARGV[3]
check({due_index, parked, claimed}, {timers, names, ids, claims})

local answered = redis.call('GET', answer)
if answered then return answered end
local cut = recut(KEYS[10], ARGV[4])
if cut then return cut end
if redis.call('ZSCORE', claimed, member) then return 'claimed' end
if not redis.call('ZSCORE', due_index, member) and not redis.call('ZSCORE', parked, member) then return 'gone' end
if is_unsure(redis.call('HGET', claims, member)) then return 'claimed' end

local record = redis.call('HGET', timers, member)
redis.call('ZREM', due_index, member)
redis.call('ZREM', parked, member)
redis.call('DEL', trigger)
redis.call('HDEL', timers, member)
redis.call('HDEL', claims, member)
if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
local id = id_of(record or '')
if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
redis.call('SET', answer, 'cancelled:' .. id, 'PX', remember)
return 'cancelled:' .. id

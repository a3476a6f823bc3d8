-- drop: forget a timer or dead letter that was put into another shard.
-- KEYS: due timers names ids parked claims dead reasons trigger answer
-- ARGV: remember_ms member label id
-- RETURNS: 1 if it was here still, 0 if somebody cancelled it meanwhile
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claims, dead, reasons, trigger, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local remember, member, label, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
check({due_index, parked, dead}, {timers, names, ids, claims, reasons})
local place = place_of(member)
local here = redis.call('ZREM', due_index, place) + redis.call('ZREM', parked, place) + redis.call('ZREM', dead, place)
-- the repetition of a call whose reply was lost; or somebody has it claimed: what is stored is theirs then
if here == 0 then return redis.call('EXISTS', answer) end
redis.call('DEL', trigger)
redis.call('HDEL', timers, place)
redis.call('HDEL', claims, place)
redis.call('HDEL', reasons, place)
if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
redis.call('SET', answer, '', 'PX', remember)
return 1

-- inspect: what is known of one timer.
-- KEYS: due timers parked claimed claims trigger
-- ARGV: member
-- RETURNS: {now_ms, state, due_ms, pttl_ms, record}; state: waiting parked claimed, or gone
local due_index, timers, parked, claimed, claims, trigger = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member, now, ttl = ARGV[1], nil, nil
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- before Redis 7.2 both clocks run on meanwhile, and a server that has to wait for a core between them tells a due
-- time that never was
for _ = 1, 5 do
  now, ttl = clock(), redis.call('PTTL', trigger)
  if clock() - now < 2 then break end
end
now = string.format('%.0f', now)
local place, record = place_of(member), record_of(timers, member)
if not record then return {now, 'gone', '0', '-2', ''} end

if redis.call('ZSCORE', claimed, place) then
  local claim = redis.call('HGET', claims, place) or ''
  return {now, 'claimed', string.match(claim, '^[^:]*:(%d+):') or '0', '-2', record}
end
local due = redis.call('ZSCORE', due_index, place)
if due then return {now, ttl == -1 and 'parked' or 'waiting', due, string.format('%.0f', ttl), record} end
local look = redis.call('ZSCORE', parked, place)
if look then return {now, ttl == -1 and 'parked' or 'waiting', look, string.format('%.0f', ttl), record} end
return {now, 'gone', '0', '-2', ''}

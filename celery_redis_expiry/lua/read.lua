-- read: what lies of timers or dead letters, for putting it elsewhere.
-- KEYS: due timers names ids parked claims dead reasons, then the trigger keys
-- ARGV: home, then the members
--   home: due parked dead
-- RETURNS: {now_ms, flat}: per member that is at home member score pttl_ms id named known record claim reason; named,
--   known: 1 where the name, the task id, means this very member
local homes = {due = KEYS[1], parked = KEYS[5], dead = KEYS[7]}
local timers, names, ids, claims, reasons = KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[8]
local home = homes[ARGV[1]]
local t = redis.call('TIME')
local flat = {}
for a = 2, #ARGV do
  local member = ARGV[a]
  local score = redis.call('ZSCORE', home, member)
  if score then
    local record = redis.call('HGET', timers, member) or ''
    local label = string.match(member, '^[^:]*:(.*)$') or ''
    -- a damaged message has lost its task id
    local id = id_of(record)
    if id == '' then id = label end
    local told = {
      member, score, redis.call('PTTL', KEYS[a + 7]), id,
      redis.call('HGET', names, label) == member and 1 or 0,
      redis.call('HGET', ids, id) == member and 1 or 0,
      record, redis.call('HGET', claims, member) or '', redis.call('HGET', reasons, member) or '',
    }
    for _, value in ipairs(told) do flat[#flat + 1] = value end
  end
end
return {string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)), flat}

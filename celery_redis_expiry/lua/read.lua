-- read: what lies of timers or dead letters, for putting it elsewhere.
-- KEYS: due timers names ids parked claims dead reasons, then the trigger keys
-- ARGV: home, then the members
--   home: due parked dead
-- RETURNS: a flat list, per member that is at home: member score expiry id named known record claim reason; expiry: of
--   its trigger key, ms since the epoch, "-" for a key without TTL, "" for no key; named, known: 1 where the name, the
--   task id, means this very member
local homes = {due = KEYS[1], parked = KEYS[5], dead = KEYS[7]}
local timers, names, ids, claims, reasons = KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[8]
local home = homes[ARGV[1]]

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function expiry_of(trigger)
  local before, after, ttl
  -- before Redis 7 the clock goes on in a script: a TTL is exact where it did not tick meanwhile
  for _ = 1, 10 do
    before, ttl, after = now(), redis.call('PTTL', trigger), now()
    if before == after then break end
  end
  return ttl == -2 and '' or ttl == -1 and '-' or string.format('%.0f', before + ttl)
end

local flat = {}
for a = 2, #ARGV do
  local member = ARGV[a]
  local place, record = place_of(member), record_of(timers, member)
  local score = record and redis.call('ZSCORE', home, place)
  if score then
    local label = label_of(member)
    -- a damaged message has lost its task id
    local id = id_of(member, record)
    if id == '' then id = label end
    local known = redis.call('HGET', ids, id)
    local told = {
      member, score, expiry_of(KEYS[a + 7]), id,
      redis.call('HGET', names, label) == member and 1 or 0,
      -- of a compact one the task id is no other's unless that is recorded, and a dead letter's is nobody's
      (known == member or place ~= member and not known and ARGV[1] ~= 'dead') and 1 or 0,
      record, redis.call('HGET', claims, place) or '', redis.call('HGET', reasons, place) or '',
    }
    for _, value in ipairs(told) do flat[#flat + 1] = value end
  end
end
return flat

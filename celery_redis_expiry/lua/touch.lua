-- touch: let due trigger keys expire now, and follow the TTL of those that were given another one.
-- KEYS: due parked pacers timers, then the trigger keys
-- ARGV: recheck_ms wake, then the members
-- RETURNS: {gone, moved, parked}: how many
local due_index, parked, pacers, timers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local recheck, wake = tonumber(ARGV[1]), ARGV[2]
check({due_index, parked}, {timers})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gone, moved, now_parked, earliest = 0, 0, 0, nil

-- ZREM comes before ZADD: it frees memory, after which a full Redis lets the script write
local function put(from, to, score, place)
  redis.call('ZREM', from, place)
  redis.call('ZADD', to, string.format('%.0f', score), place)
end

for i = 3, #ARGV do
  local place = place_of(ARGV[i])
  local home = record_of(timers, ARGV[i]) and (redis.call('ZSCORE', due_index, place) and due_index
    or redis.call('ZSCORE', parked, place) and parked)
  -- asking for the TTL of a key whose time has come deletes it and sends its expired event
  local ttl = redis.call('PTTL', KEYS[i + 2])
  if home and ttl == -1 then
    put(home, parked, now + recheck, place)
    now_parked = now_parked + 1
  elseif home and ttl >= 0 then
    put(home, due_index, now + ttl, place)
    moved = moved + 1
    if not earliest or now + ttl < earliest then earliest = now + ttl end
  elseif home then
    if home == parked then
      put(parked, due_index, now, place)
      if not earliest or now < earliest then earliest = now end
    end
    gone = gone + 1
  end
end
wake_pacers(pacers, wake, earliest)
return {gone, moved, now_parked}

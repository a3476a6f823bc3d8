-- release: give claimed timers back, to be claimed again after a delay.
-- KEYS: due claimed claims pacers
-- ARGV: token delay_ms tried unsure wake, then the members
--   tried: "1" where the message itself was not taken, "0" where it never got that far; unsure: "1" where the broker
--   may have taken it
-- RETURNS: how many were released
local due_index, claimed, claims, pacers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, delay, tried, wake = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local now_unsure = ARGV[4] == '1' and ':?'
check({due_index, claimed}, {claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local released, earliest = 0, nil
for a = 6, #ARGV do
  local place = place_of(ARGV[a])
  local holder, due, attempts, unsure = read_claim(redis.call('HGET', claims, place), now)
  if holder == token then
    local again = delay > 0 and now + delay or due
    redis.call('ZREM', claimed, place)
    redis.call('HSET', claims, place, string.format('-:%.0f:%.0f%s', due, attempts + tried, now_unsure or unsure))
    redis.call('ZADD', due_index, string.format('%.0f', again), place)
    released = released + 1
    if not earliest or again < earliest then earliest = again end
  end
end
wake_pacers(pacers, wake, earliest)
return released

-- lead: become, stay or cease to be the one that delivers for a watch.
-- KEYS: leader
-- ARGV: token lease_ms; 0 to cease
-- RETURNS: led (it was and is this one's), taken (it is now), ceased, or other
local leader = KEYS[1]
local token, lease = ARGV[1], ARGV[2]
local holder = redis.call('GET', leader)
if holder and holder ~= token then return 'other' end
-- it frees memory, after which a full Redis lets the script write: what it holds must be told of all the same
redis.call('DEL', leader)
if lease == '0' then
  redis.call('SET', leader, token, 'PX', 1)
  return 'ceased'
end
redis.call('SET', leader, token, 'PX', lease)
return holder and 'led' or 'taken'

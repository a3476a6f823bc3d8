-- a key that somebody made another type fails a script here, before its first write: all of it or nothing
local function check(sorted_sets, hashes)
  for _, key in ipairs(sorted_sets) do redis.call('ZCARD', key) end
  for _, key in ipairs(hashes) do redis.call('HLEN', key) end
end

-- holder, due and attempts of a claim, and ':?' where the broker may have the message, and nobody knows; nil
-- where it can't be read: no damage to it puts the timer off
local function read_claim(claim, now)
  local holder, due, attempts, unsure = string.match(claim or '', '^([^:]*):(%d+):(%d+)(:?%??)$')
  if holder then return holder, math.min(tonumber(due), now), math.min(tonumber(attempts), 1e6), unsure end
end

-- the number of shards, where it is another than the caller reckons with: he looks for timers elsewhere
local function recut(namespace, shards)
  local recorded = redis.pcall('HGET', namespace, 'shards')
  if type(recorded) == 'string' and recorded ~= shards then return recorded end
end

-- whether a timer is beyond recall although it is not claimed
local function is_unsure(claim)
  return string.sub(claim or '', -2) == ':?'
end

-- who puts a timer into the due index tells the pacers that announced to wake later; without the right to
-- publish they find it later
local function wake_pacers(pacers, channel, earliest)
  if not earliest then return end
  local announced = redis.pcall('ZREVRANGE', pacers, 0, 0, 'WITHSCORES')[2]
  if not announced or earliest < tonumber(announced) then
    redis.pcall('PUBLISH', channel, string.format('%.0f', earliest))
  end
end
-- put: put a timer or dead letter of another shard here, as it was there; repeating it does no harm.
-- KEYS: due timers names ids parked claims dead reasons trigger
-- ARGV: member label id home score expiry named known record claim reason
--   home: due parked dead; expiry: of its trigger key, ms since the epoch, "-" for a key without TTL, "" for no key;
--   named, known: "1" where the name, the task id, means this very member
-- RETURNS: 1
local homes = {due = KEYS[1], parked = KEYS[5], dead = KEYS[7]}
local timers, names, ids, claims, reasons, trigger = KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[8], KEYS[9]
local member, label, id, home, score, expiry = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local named, known, record, claim, reason = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
check({KEYS[1], KEYS[5], KEYS[7]}, {timers, names, ids, claims, reasons})
-- the first write is one that a full Redis refuses, so that it refuses all of them
redis.call('HSET', timers, member, record)
redis.call('ZADD', homes[home], score, member)
if named == '1' then redis.call('HSET', names, label, member) end
if known == '1' then redis.call('HSET', ids, id, member) end
if claim ~= '' then redis.call('HSET', claims, member, claim) end
if reason ~= '' then redis.call('HSET', reasons, member, reason) end
if expiry == '-' then redis.call('SET', trigger, '')
elseif expiry ~= '' then redis.call('SET', trigger, '', 'PXAT', expiry) end
return 1

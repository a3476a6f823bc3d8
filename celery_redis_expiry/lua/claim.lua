-- claim: take due timers for publishing, until the lease ends; forget those that their guards call off.
-- KEYS: due timers names ids parked claimed claims pacers answer, then per timer: its trigger key, the keys of its guard
-- ARGV: token lease_ms recheck_ms remember_ms wake, then per timer: member how
--   how: "1" where an event said that the trigger key has expired, "0" where only the index says so; then what its
--   guard asks, a sign for each of its keys: "-" must not exist, "+" must exist; or what it said a moment ago, where
--   its keys are out of reach: "y" or "n"
-- RETURNS: {now_ms, claims, guarded, called_off, recurring}: claims is a flat list of member due_ms attempts record (""
--   where it is missing); guarded of member record, for those whose guard was not given: nothing was done; called_off of
--   member id unsure, "1" where the broker may have the message, and nobody knows; recurring of member due_ms record:
--   those are for `recur`, nothing was done
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, pacers, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local token, lease, recheck, remember, wake = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
check({due_index, parked, claimed}, {timers, names, ids, claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease_end = string.format('%.0f', now + lease)
local taken, guarded, recurring, earliest = {}, {}, {}, nil
-- what is claimed says whose it is when this call is repeated; what is forgotten can't
local called_off = cjson.decode(redis.call('GET', answer) or '[]')
local remembered = #called_off

local function give(member, due, attempts, record)
  taken[#taken + 1] = member
  taken[#taken + 1] = string.format('%.0f', due)
  taken[#taken + 1] = string.format('%.0f', attempts)
  taken[#taken + 1] = record
end

-- how many of KEYS are a guard's
local function asked(guard)
  return guard ~= '' and guard ~= 'y' and guard ~= 'n' and #guard or 0
end

local function allows(guard, k)
  for i = 1, asked(guard) do
    local exists = redis.call('EXISTS', KEYS[k + i]) == 1
    if exists == (string.sub(guard, i, i) == '-') then return false end
  end
  return guard ~= 'n'
end

local function call_off(member, home, record, unsure)
  local label, id = label_of(member), id_of(member, record)
  redis.call('ZREM', home, member)
  redis.call('HDEL', timers, member)
  redis.call('HDEL', claims, member)
  if redis.call('HGET', names, label) == member then redis.call('HDEL', names, label) end
  if redis.call('HGET', ids, id) == member then redis.call('HDEL', ids, id) end
  called_off[#called_off + 1] = member
  called_off[#called_off + 1] = id
  called_off[#called_off + 1] = unsure and '1' or '0'
end

local k = 10
for a = 6, #ARGV, 2 do
  local member, how = ARGV[a], ARGV[a + 1]
  local expired, guard = string.sub(how, 1, 1) == '1', string.sub(how, 2)
  local place, record = place_of(member), record_of(timers, member)
  local holder, first_due, attempts, unsure = read_claim(redis.call('HGET', claims, place), now)
  local score, home = redis.call('ZSCORE', due_index, place), due_index
  if not score then score, home = redis.call('ZSCORE', parked, place), parked end
  if not record then
    -- an older generation, whose place another has by now
  elseif holder == token then
    give(member, first_due, attempts, record) -- the reply to this very call was lost
  elseif score then
    local ttl = redis.call('PTTL', KEYS[k])
    -- each ZREM comes before its ZADD: it frees memory, after which a full Redis lets the script write
    if ttl == -1 then
      redis.call('ZREM', home, place)
      redis.call('ZADD', parked, string.format('%.0f', now + recheck), place)
    elseif ttl >= 0 then
      redis.call('ZREM', home, place)
      redis.call('ZADD', due_index, string.format('%.0f', now + ttl), place)
      if not earliest or now + ttl < earliest then earliest = now + ttl end
    elseif expired or (home == due_index and tonumber(score) <= now) then
      if guard == '' and is_guarded(record) then
        guarded[#guarded + 1] = member
        guarded[#guarded + 1] = record
      elseif guard == '' and string.sub(record, 1, 2) == '5:' then
        local due = string.format('%.0f', math.max(0, math.min(tonumber(score), now)))
        for _, value in ipairs({member, due, record}) do recurring[#recurring + 1] = value end
      elseif allows(guard, k) then
        local due = first_due or math.max(0, math.min(tonumber(score), now))
        attempts = attempts or 0
        redis.call('ZREM', home, place)
        redis.call('ZADD', claimed, lease_end, place)
        redis.call('HSET', claims, place, string.format('%s:%.0f:%.0f%s', token, due, attempts, unsure or ''))
        give(member, due, attempts, record)
      else
        call_off(member, home, record, unsure == ':?')
      end
    end
  end
  k = k + 1 + asked(guard)
end
if #called_off > remembered then redis.call('SET', answer, cjson.encode(called_off), 'PX', remember) end
wake_pacers(pacers, wake, earliest)
return {string.format('%.0f', now), taken, guarded, called_off, recurring}

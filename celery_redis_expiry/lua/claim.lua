-- claim: take due timers for publishing, until the lease ends; forget those that their guards call off.
-- KEYS: due timers names ids parked claimed claims pacers answer, then per timer: its trigger key, the keys of its guard
-- ARGV: token lease_ms recheck_ms remember_ms wake, then per timer: member how
--   how: "1" where an event said that the trigger key has expired, "0" where only the index says so; then what its
--   guard asks, a sign for each of its keys: "-" must not exist, "+" must exist; or what it said a moment ago, where
--   its keys are out of reach: "y" or "n"
-- RETURNS: {now_ms, taken, dues, attempts, records, guarded, called_off, recurring}: taken: a sign for each timer, "t"
--   where it was taken, "-" where not; dues (ms), attempts: of those that were, with spaces between them; records: theirs,
--   "" where it is missing; guarded: flat list of member record, for those whose guard was not given, recurring of member
--   due_ms record, for `recur`: nothing was done; called_off of member id unsure, "1" where the broker may have it
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, pacers, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local token, lease, recheck, remember, wake = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
check({due_index, parked, claimed}, {timers, names, ids, claims})
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease_end = string.format('%.0f', now + lease)
local guarded, recurring, earliest, places, seen = {}, {}, nil, {}, {}
local taken, dues, attempted, given, freed, leases, held = {}, {}, {}, {}, {}, {}, {}
-- what is claimed says whose it is when this call is repeated; what is forgotten can't
local called_off = cjson.decode(redis.call('GET', answer) or '[]')
local remembered = #called_off
for a = 6, #ARGV, 2 do places[#places + 1] = place_of(ARGV[a]) end
local records = redis.call('HMGET', timers, unpack(places))
local claimed_by = redis.call('HLEN', claims) > 0 and redis.call('HMGET', claims, unpack(places)) or {}
-- asking for a key whose time has come deletes it; as a rule all are gone, and one question is enough
local all_gone = #KEYS == 9 + #places and redis.call('EXISTS', unpack(KEYS, 10)) == 0

local function add(list, ...) for _, value in ipairs({...}) do list[#list + 1] = value end end

local function give(i, due, attempts, record)
  taken[i], dues[#dues + 1] = 't', string.format('%.0f', due)
  attempted[#attempted + 1] = string.format('%.0f', attempts)
  given[#given + 1] = record
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
  add(called_off, member, id, unsure and '1' or '0')
end

local k = 10
for i, place in ipairs(places) do
  local member, how = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  local expired, guard = string.sub(how, 1, 1) == '1', string.sub(how, 2)
  local record, score, home = records[i] or '', redis.call('ZSCORE', due_index, place), due_index
  -- an older generation, whose place another has by now
  local is_other = record ~= '' and string.byte(member) == 1 and string.sub(record, 2, 10) ~= string.sub(member, 13)
  local holder, first_due, attempts, unsure = read_claim(claimed_by[i] or '', now)
  if not score then score, home = redis.call('ZSCORE', parked, place), parked end
  taken[i] = '-'
  if is_other or seen[place] then
    -- nothing to do
  elseif holder == token then
    give(i, first_due, attempts, record) -- the reply to this very call was lost
  elseif score then
    local ttl = all_gone and -2 or redis.call('PTTL', KEYS[k])
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
        add(guarded, member, record)
      elseif guard == '' and string.sub(record, 1, 2) == '5:' then
        add(recurring, member, string.format('%.0f', math.max(0, math.min(tonumber(score), now))), record)
      elseif allows(guard, k) then
        attempts = attempts or 0
        give(i, first_due or math.max(0, math.min(tonumber(score), now)), attempts, record)
        if home == parked then redis.call('ZREM', parked, place) else freed[#freed + 1] = place end
        local n = #leases
        leases[n + 1], leases[n + 2] = lease_end, place
        held[n + 1], held[n + 2] = place, string.format('%s:%s:%.0f%s', token, dues[#dues], attempts, unsure or '')
        seen[place] = true
      else
        call_off(member, home, record, unsure == ':?')
      end
    end
  end
  k = k + 1 + asked(guard)
end
if freed[1] then redis.call('ZREM', due_index, unpack(freed)) end
if leases[1] then redis.call('ZADD', claimed, unpack(leases)) end
if held[1] then redis.call('HSET', claims, unpack(held)) end
if #called_off > remembered then redis.call('SET', answer, cjson.encode(called_off), 'PX', remember) end
wake_pacers(pacers, wake, earliest)
local told = {table.concat(taken), table.concat(dues, ' '), table.concat(attempted, ' ')}
return {string.format('%.0f', now), told[1], told[2], told[3], given, guarded, called_off, recurring}

-- where a member stands in sorted sets and hashes: a compact one, which calls have as \1 and the 16 bytes of its
-- task id and 4 of its generation, by the first 12
local function place_of(member)
  return string.byte(member) == 1 and string.sub(member, 1, 12) or member
end

-- the member that stands at a place
local function member_at(timers, place)
  if string.byte(place) ~= 1 then return place end
  return place .. string.sub(redis.call('HGET', timers, place) or '', 2, 10)
end

-- the members that stand at places
local function members_at(timers, places)
  local members = {}
  for first = 1, #places, 500 do
    local some = {unpack(places, first, math.min(first + 499, #places))}
    local records = redis.call('HMGET', timers, unpack(some))
    for i, place in ipairs(some) do
      local is_compact = string.byte(place) == 1
      members[#members + 1] = is_compact and place .. string.sub(records[i] or '', 2, 10) or place
    end
  end
  return members
end

-- the stored message of a member, '' where it is missing; nil where its place is another's by now
local function record_of(timers, member)
  local record = redis.call('HGET', timers, place_of(member)) or ''
  if record ~= '' and string.byte(member) == 1 and string.sub(record, 2, 10) ~= string.sub(member, 13) then
    return nil
  end
  return record
end

-- the task id of a timer; '' where its stored message is damaged
local function id_of(member, record)
  if string.byte(member) == 1 then
    if #member ~= 21 then return '' end
    local x = '%02x%02x'
    return string.format(x .. x .. '-' .. x .. '-' .. x .. '-' .. x .. '-' .. x .. x .. x, string.byte(member, 2, 17))
  end
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  return stop and string.sub(record, stop + 1, stop + length) or ''
end

-- the user's name for a timer, else its task id
local function label_of(member)
  return string.byte(member) == 1 and id_of(member) or string.match(member, '^[^:]*:(.*)$') or ''
end

-- the member that has a task id, by its UUID (\1 and 16 bytes, or "" where it is none) if no other is recorded
local function member_with(ids, timers, id, uuid)
  local member = redis.call('HGET', ids, id)
  if member or uuid == '' then return member end
  local place = string.sub(uuid, 1, 12)
  local record = redis.call('HGET', timers, place)
  -- what is damaged has lost the rest of its id
  local is_its = record and (string.byte(record) ~= 3 or string.sub(record, 2, 6) == string.sub(uuid, 13))
  return is_its and place .. string.sub(record, 2, 10)
end

-- whether a stored message has a guard, without whose word it must not be published
local function is_guarded(record)
  return string.sub(record, 1, 2) == '2:'
end

-- the score of a timer that waits, whether its trigger key has a TTL or not
local function waiting(due_index, parked, member)
  local place = place_of(member)
  return redis.call('ZSCORE', due_index, place) or redis.call('ZSCORE', parked, place)
end

-- forget a timer that waits, all but its name and task id, which may mean another generation by now
local function forget(due_index, parked, timers, claims, trigger, member)
  local place = place_of(member)
  redis.call('DEL', trigger)
  redis.call('ZREM', due_index, place)
  redis.call('ZREM', parked, place)
  redis.call('HDEL', timers, place)
  redis.call('HDEL', claims, place)
end

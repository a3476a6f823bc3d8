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

-- what a stored message says behind its task id, by a template, from the template's name on; nil where it has none
local function templated(record)
  if string.byte(record) == 3 then return string.sub(record, 11) end
  local _, stop, version, length = string.find(record, '^([34]):(%d+):')
  if version == '4' then _, stop = string.find(record, '^%d+,', stop + length + 1) length = 0 end
  return stop and string.sub(record, stop + length + 1)
end

-- keep the templates that are brought, pairs of name and text, "" for one that should be here, and note when they
-- were used; `check` before the first write: the state and name of the first that is "lacking", or "clash"es
local function check_templates(templates, brought)
  for i = 1, #brought, 2 do
    local known = redis.call('HGET', templates, brought[i])
    if not known and brought[i + 1] == '' then return 'lacking', brought[i] end
    if known and brought[i + 1] ~= '' and known ~= brought[i + 1] then return 'clash', brought[i] end
  end
end

local function keep_templates(templates, used, brought, now)
  for i = 1, #brought, 2 do
    if brought[i + 1] ~= '' then redis.call('HSET', templates, brought[i], brought[i + 1]) end
    redis.call('ZADD', used, string.format('%.0f', now), brought[i])
  end
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

-- when the first call of a debounce was, ms, as `stamped` wrote it into a stored message; nil where it did not
local function since_of(record)
  local _, stop, length = string.find(record, '^%d+:(%d+):')
  local pattern = string.sub(record, 1, 2) == '4:' and '^(%d+),' or '^{"since":(%d+),'
  return stop and tonumber(string.match(record, pattern, stop + length + 1))
end

-- a stored message with that time in front of its template's name, or first in its JSON, in place of an older one;
-- with none for nil
local function stamped(record, since)
  local _, stop, version, length = string.find(record, '^(%d+):(%d+):')
  if not stop then return record end
  local head, body = string.sub(record, stop - #length, stop + length), string.sub(record, stop + length + 1)
  if version == '3' or version == '4' then
    if version == '4' then body = string.gsub(body, '^%d+,', '', 1) end
    return since and string.format('4:%s%.0f,', head, since) .. body or '3:' .. head .. body
  end
  body = string.match(body, '^{(.+)$')
  if not body then return record end
  local stamp = since and string.format('"since":%.0f,', since) or ''
  return version .. ':' .. head .. '{' .. stamp .. string.gsub(body, '^"since":%d+,', '')
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

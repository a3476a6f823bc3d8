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

-- a stored message as another member has it; nil where that one is compact, and the message has no template
local function rewritten(record, member, id)
  local compact = place_of(member) ~= member
  if not compact and string.byte(record) ~= 3 then return record end
  local body = templated(record)
  if compact then return body and '\3' .. string.sub(member, 13) .. body end
  return '3:' .. #id .. ':' .. id .. body
end

-- a debounce: its stored message, and its due time: not later than max_wait (ms) after its first call, which the old
-- stored message tells of, where one waits
local function put_off(record, old_record, due, max_wait, now)
  local since = math.min(old_record and since_of(old_record) or now, now)
  return stamped(record, since), math.min(due, since + max_wait)
end

local letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local quads = setmetatable({}, {__index = function(known, three)
  local a, b, c = string.byte(three, 1, 3)
  local number, quad = (a * 256 + b) * 256 + c, ''
  for _ = 1, 4 do
    local digit = number % 64 + 1
    quad, number = string.sub(letters, digit, digit) .. quad, math.floor(number / 64)
  end
  known[three] = quad
  return quad
end})

-- as kombu encodes bodies
local function base64(bytes)
  local missing = -#bytes % 3
  if missing == 0 then return (string.gsub(bytes, '...', quads)) end
  local text = string.gsub(bytes .. string.rep('\0', missing), '...', quads)
  return string.sub(text, 1, -1 - missing) .. string.rep('=', missing)
end

-- the JSON of a part of a stored message that ends with a NUL: of a string, what stands between its quotes, or what
-- stands in an object; and where the next part begins; nil where it is damaged
local function part_of(body, from, open, close)
  local stop = string.find(body, '\0', from, true)
  local part = stop and string.sub(body, from, stop - 1)
  if not part or string.find(part, '[^ -~]') then return end
  local read, value = pcall(cjson.decode, open .. part .. close)
  if read and (open == '{' or #value == 1) then return part, stop + 1 end
end

-- what stands in a stored message behind its template's name (see `Template.fill`): the parts of its headers, and its
-- body; nil where they are damaged, or can't be written as kombu would
local function parts_of(body)
  local flags, from, args, kwargs, extra = string.byte(body, 7) or 255, 8, nil, '{}', ''
  if flags > 15 then return end
  if flags % 2 == 0 then args, from = part_of(body, from, '["', '"]') end
  if from and flags % 8 > 3 then kwargs, from = part_of(body, from, '["', '"]') end
  if from and flags > 7 then extra, from = part_of(body, from, '{', '}') end
  if not from then return end
  local middle = string.sub(body, from)
  if flags % 2 == 1 then
    if string.find(middle, '[^ -~]') then return end
    args = string.gsub(string.gsub(string.sub(middle, 2, -2), '"', "'"), '\\', '\\\\')
    args = '(' .. args .. (flags % 4 > 1 and ',)' or ')')
  end
  return args, kwargs, flags > 7 and ', ' .. extra or '', middle
end

-- the message of a timer as kombu would push it; nil where it can't be made here, or its arguments are cut off
local function message_of(envelope, id, body, tag)
  local args, kwargs, extra, middle = parts_of(body)
  if not args or string.find(id, '[^ -~]') or string.find(id, '["\\]') then return end
  if envelope.prefix ~= '' and not string.find(middle, '^%[.*[%]}]$') then return end
  local head = envelope.prefix .. middle
  local lacking = -#head % 3 + 1
  local values, pieces = envelope.values, envelope.pieces
  values.id, values.args, values.kwargs, values.extra, values.tag = id, args, kwargs, extra, tag
  values.body = base64(head .. envelope.heads[lacking]) .. envelope.tails[lacking]
  for i, name in ipairs(envelope.slots) do pieces[2 * i] = values[name] end
  return table.concat(pieces)
end

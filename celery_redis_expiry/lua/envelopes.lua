local digits = {}
for digit in string.gmatch('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', '.') do
  digits[#digits + 1] = digit
end
local quads = setmetatable({}, {__index = function(known, three)
  local a, b, c = string.byte(three, 1, 3)
  local x, y, z = a % 4, b % 16, c % 64
  local quad = digits[(a - x) / 4 + 1] .. digits[x * 16 + (b - y) / 16 + 1]
    .. digits[y * 4 + (c - z) / 64 + 1] .. digits[z + 1]
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
  if open ~= '{' and not string.find(part, '["\\]') then return part, stop + 1 end
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
    args = string.sub(middle, 2, -2)
    if string.find(args, '["\\]') then args = string.gsub(string.gsub(args, '"', "'"), '\\', '\\\\') end
    args = '(' .. args .. (flags % 4 > 1 and ',)' or ')')
  end
  return args, kwargs, flags > 7 and ', ' .. extra or '', middle
end

-- the message of a timer as kombu would push it; nil where it can't be made here, or its arguments are cut off
local function message_of(envelope, id, body, tag)
  local args, kwargs, extra, middle = parts_of(body)
  -- what JSON would write otherwise
  if not args or string.find(id, '[^ !#-Z^-~%[%]]') then return end
  if envelope.prefix ~= '' and not string.find(middle, '^%[.*[%]}]$') then return end
  local head = envelope.prefix .. middle
  local lacking = -#head % 3 + 1
  local values, pieces = envelope.values, envelope.pieces
  values.id, values.args, values.kwargs, values.extra, values.tag = id, args, kwargs, extra, tag
  values.body = base64(head .. envelope.heads[lacking]) .. envelope.tails[lacking]
  for i, name in ipairs(envelope.slots) do pieces[2 * i] = values[name] end
  return table.concat(pieces)
end

-- schedule: store timers and arm them; replaces, keeps, extends or moves what has the same name or id.
-- KEYS: due timers names ids parked claimed claims pacers namespace answer templates used, then per timer: trigger
--   expected_trigger
-- ARGV: app remember_ms wake latest_ms shards brought, then as many pairs of a template's name and text (see
--   `keep_templates`), then per timer: mode when member name id uuid expected record max_wait
--   mode: replace keep extend raise move, fire (to move only what waits); when: "+ms" from now or "=ms" since the
--   epoch; uuid: see `member_with`; expected: the member that the caller believes to be the present one ("" for none);
--   its is expected_trigger; max_wait: see `put_off`
-- RETURNS: per timer {status, due, member, id, replaced}; status: scheduled kept extended exists again missing claimed
--   late; plain, where it can't be compact; or one for all: foreign shards lacking clash; replaced: the task id of the
--   timer that made way, "" or absent for none. Only due where it was scheduled as asked, and none made way
local due_index, timers, names, ids, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local claimed, claims, pacers, namespace, answer = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local templates, used = KEYS[11], KEYS[12]
local app, remember, wake, latest, shards = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local brought = {unpack(ARGV, 7, 6 + 2 * ARGV[6])}

check({due_index, parked, claimed, used}, {timers, names, ids, claims, namespace, templates})
local answered = redis.call('GET', answer)
if answered then return cjson.decode(answered) end
local refused, recorded = refusal(namespace, app, shards, templates, brought)
if refused then return refused end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function schedule(k, a)
  local trigger, expected_trigger = KEYS[k], KEYS[k + 1]
  local mode, when, member, name, id, uuid, expected, record, max_wait = unpack(ARGV, a, a + 8)
  local place = place_of(member)
  local only_waiting = mode == 'fire'
  if only_waiting then mode = 'move' end
  local due = tonumber(string.sub(when, 2)) + (string.sub(when, 1, 1) == '+' and now or 0)
  if due > latest then return {'late', '0', '', ''} end

  local by_id = mode == 'move' or name == ''
  local current = by_id and member_with(ids, timers, id, uuid) or not by_id and redis.call('HGET', names, name)
  local old_due = current and waiting(due_index, parked, current)
  local firing = current and not old_due and redis.call('ZSCORE', claimed, place_of(current))
  if current and not old_due and not firing then current = false end
  if mode == 'move' and not current then return {'missing', '0', '', ''} end
  local beyond_recall = firing or current and is_unsure(redis.call('HGET', claims, place_of(current)))
  if only_waiting and beyond_recall then return {'claimed', '0', current, ''} end
  if current == member then return {'scheduled', old_due or string.format('%.0f', due), member, id} end

  local status, old_record = 'scheduled', current and (redis.call('HGET', timers, place_of(current)) or '')
  if old_due then
    if mode == 'keep' then return {'kept', old_due, current, id_of(current, old_record)} end
    local exists = mode == 'raise' or (name == '' and mode ~= 'move')
    if exists then return {'exists', old_due, current, id_of(current, old_record)} end
  end
  -- what the broker may have is left to finish, like what is claimed
  if beyond_recall then old_due = false end
  if not by_id then
    -- two waiting timers under one task id would share one result: refused, whatever their names
    local namesake = member_with(ids, timers, id, uuid)
    local namesake_due = namesake and namesake ~= current and waiting(due_index, parked, namesake)
    if namesake_due then return {'exists', namesake_due, namesake, id} end
  end
  if current and (mode == 'move' or mode == 'extend' and old_record ~= '') then
    if current ~= expected then return {'again', '0', current, ''} end
    -- of a debounce that is firing the new generation is no part
    record, status = old_due and old_record or stamped(old_record, nil), 'extended'
    if id_of(current, old_record) ~= '' then id = id_of(current, old_record) end
  elseif old_due and current ~= expected then
    return {'again', '0', current, ''}
  end
  -- what is firing, and a dead letter, keeps its place
  if status == 'extended' then record = rewritten(record, member, id) end
  local free = place == member or (old_due and place_of(current) == place) or not redis.call('HGET', timers, place)
  if not (record and free) then return {'plain', '0', '', ''} end
  if max_wait ~= '' then record, due = put_off(record, old_due and old_record, due, max_wait, now) end
  local due_text = string.format('%.0f', due)
  -- the first write is one that a full Redis refuses, so that it refuses all of them
  if old_due or not recorded then redis.call('HSET', namespace, 'shards', shards) end
  local old_id = old_due and id_of(current, old_record)
  if old_due then forget(due_index, parked, timers, claims, expected_trigger, current) end
  if old_due and redis.call('HGET', ids, old_id) == current then redis.call('HDEL', ids, old_id) end
  redis.call('HSET', timers, place, record)
  redis.call('ZADD', due_index, due_text, place)
  if due > now then redis.call('SET', trigger, '0', 'PXAT', due_text) end
  if name ~= '' and (mode ~= 'move' or redis.call('HGET', names, name) == current) then
    redis.call('HSET', names, name, member)
  end
  if place == member then redis.call('HSET', ids, id, member) end
  local body = status == 'extended' and templated(record)
  if body then keep_templates(templates, used, {string.sub(body, 1, 6), ''}, now) end
  -- a key with a past expiry would be deleted without an expired event
  if due <= now then redis.pcall('PUBLISH', wake, '!' .. member) end
  local replaced = old_due and old_id ~= id and old_id or ''
  if status == 'scheduled' and replaced == '' then return due_text, due end
  return {status, due_text, member, id, replaced}, due
end

local outcomes, earliest, k = {}, nil, 13
keep_templates(templates, used, brought, now)
for a = 7 + #brought, #ARGV, 9 do
  local outcome, due = schedule(k, a)
  if due and (not earliest or due < earliest) then earliest = due end
  outcomes[#outcomes + 1] = outcome
  k = k + 2
end
if earliest then
  redis.call('SET', answer, cjson.encode(outcomes), 'PX', remember)
  wake_pacers(pacers, wake, earliest)
end
return outcomes

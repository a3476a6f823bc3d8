-- agenda: read which watched keys are due, or will be soon.
-- KEYS: watched
-- ARGV: since ahead_ms limit; since: "-inf", or the due time (ms) up to which the caller has read before
-- RETURNS: {now_ms, next_ms, rows}: when the first after these is due, or ""; rows: flat list of key and due time
local watched = KEYS[1]
local since, ahead, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if since ~= '-inf' then since = '(' .. since end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- a key lives until now > due, so what is due at this very millisecond isn't yet
local horizon = string.format('%.0f', now - 1 + ahead)
local rows = redis.call('ZRANGEBYSCORE', watched, since, horizon, 'WITHSCORES', 'LIMIT', 0, limit)
local head = redis.call('ZRANGEBYSCORE', watched, '(' .. horizon, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
return {string.format('%.0f', now), head or '', rows}

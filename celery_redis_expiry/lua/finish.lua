-- finish: the task of an occurrence has ended: the next one need not wait for it.
-- KEYS: running
-- ARGV: id
-- RETURNS: 1 if it was awaited, else 0
local running, id = KEYS[1], ARGV[1]
if redis.call('GET', running) ~= id then return 0 end
-- forgotten by SET, which every expiry worker has the right to
redis.call('SET', running, '', 'PX', 1)
return 1

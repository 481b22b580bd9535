-- Counts a hit, unless the month's count would pass a limit. The month has a counter of its own, a further key, which is
-- what most would do. KEYS: the meter, its day's hash, the month's counter. ARGV: day (20220809), hour, limit, when the
-- counter may go (milliseconds since the epoch).
local counted = tonumber(redis.call('GET', KEYS[3]) or 0)
if counted + 1 > tonumber(ARGV[3]) then
    local counts = redis.call('HMGET', KEYS[2], 'day', ARGV[2])
    return {tonumber(counts[1] or 0), tonumber(counts[2] or 0), 0}
end
if redis.call('INCR', KEYS[3]) == 1 then
    redis.call('PEXPIREAT', KEYS[3], ARGV[4])
end
-- Then it goes on as hit.lua.

-- Counts a hit, unless the month's count would pass a limit. The month's count is the sum of its days, so that there is
-- no counter to go wrong when a day is corrected. KEYS: the meter, its day's hash. ARGV: day (20220809), hour, limit,
-- the month's first and last day.
local counted = 0
for _, held in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[4], ARGV[5])) do
    counted = counted + (redis.call('HGET', KEYS[1] .. ':day:' .. held, 'day') or 0)
end
if counted + 1 > tonumber(ARGV[3]) then
    local counts = redis.call('HMGET', KEYS[2], 'day', ARGV[2])
    return {tonumber(counts[1] or 0), tonumber(counts[2] or 0), 0}
end
-- Then it goes on as hit.lua.

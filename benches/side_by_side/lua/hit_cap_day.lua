-- Counts a hit, unless the day's count would pass a limit. KEYS: the meter, its day's hash. ARGV: day (20220809), hour,
-- limit.
local counted = tonumber(redis.call('HGET', KEYS[2], 'day') or 0)
if counted + 1 > tonumber(ARGV[3]) then
    return {counted, tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or 0), 0}
end
-- Then it goes on as hit.lua.

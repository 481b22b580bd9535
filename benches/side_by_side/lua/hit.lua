-- Counts a hit. KEYS: the meter, its day's hash. ARGV: day (20220809), hour.
local day = redis.call('HINCRBY', KEYS[2], 'day', 1)
local hour = redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
if hour == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
end
return {day, hour, 1}

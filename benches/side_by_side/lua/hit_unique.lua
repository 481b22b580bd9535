-- Counts a hit, and who it came from. KEYS: the meter, its day's hash, the day's HyperLogLog. ARGV: day (20220809),
-- hour, id.
local day = redis.call('HINCRBY', KEYS[2], 'day', 1)
local hour = redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
redis.call('PFADD', KEYS[3], ARGV[3])
if hour == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
end
return {day, hour, 1}

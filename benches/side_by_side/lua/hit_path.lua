-- Counts a hit along a breakdown. KEYS: the meter, its day's hash, the set of the first level, the set below the first
-- member. ARGV: day (20220809), hour, the first member, the second.
local day = redis.call('HINCRBY', KEYS[2], 'day', 1)
local hour = redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
redis.call('ZINCRBY', KEYS[3], 1, ARGV[3])
redis.call('ZINCRBY', KEYS[4], 1, ARGV[4])
if hour == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
end
return {day, hour, 1}

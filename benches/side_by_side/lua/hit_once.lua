-- Counts a hit, unless its event was counted before. KEYS: the meter, its day's hash, the set of the day's event ids.
-- ARGV: day (20220809), hour, event id, when the ids may go (milliseconds since the epoch).
if redis.call('SADD', KEYS[3], ARGV[3]) == 0 then
    local counts = redis.call('HMGET', KEYS[2], 'day', ARGV[2])
    return {tonumber(counts[1] or 0), tonumber(counts[2] or 0), 0}
end
local day = redis.call('HINCRBY', KEYS[2], 'day', 1)
local hour = redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
if hour == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
    redis.call('PEXPIREAT', KEYS[3], ARGV[4])
end
return {day, hour, 1}

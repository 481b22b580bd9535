-- Fixed window from the first hit. KEYS: the limiter. ARGV: limit, period in seconds, quantity.
-- The state is the count, which expires at the window's end.
local limit, period, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000, tonumber(ARGV[3])

local count = redis.call('INCRBY', KEYS[1], quantity)
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    -- The window opens; or somebody forgot to end it.
    redis.call('PEXPIRE', KEYS[1], period)
    left = period
end
local reset_after = math.ceil(left / 1000)

if count > limit then
    count = redis.call('DECRBY', KEYS[1], quantity)
    if count == 0 then
        redis.call('DEL', KEYS[1])
        reset_after = 0
    end
    return {1, limit, limit - count, quantity > limit and -1 or reset_after, reset_after}
end
return {0, limit, limit - count, -1, reset_after}

-- Sliding log. KEYS: the limiter. ARGV: limit, period in seconds, quantity.
-- The state is a sorted set with a member for each cell that was taken, its time in microseconds the score.
local limit, period, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000, tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - period)
local held = redis.call('ZCARD', KEYS[1])

if held + quantity > limit then
    local function leaves(place)
        local cell = redis.call('ZRANGE', KEYS[1], place, place, 'WITHSCORES')
        return cell[2] and math.ceil((cell[2] + period - now) / 1000000) or 0
    end
    local retry_after = quantity > limit and -1 or leaves(held + quantity - limit - 1)
    return {1, limit, limit - held, retry_after, leaves(-1)}
end

for cell = 1, quantity do
    -- Cells of one microsecond are told apart by how many there are.
    redis.call('ZADD', KEYS[1], now, string.format('%.0f-%d', now, held + cell))
end
redis.call('PEXPIRE', KEYS[1], period / 1000)
return {0, limit, limit - held - quantity, -1, math.ceil(period / 1000000)}

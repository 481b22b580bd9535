-- Sliding-window counter. KEYS: the limiter. ARGV: limit, period in seconds, quantity.
-- The state is a hash: when the current window began (seconds), its count, and that of the window before.
local limit, period, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local start = now - now % period
local stored = redis.call('HMGET', KEYS[1], 'start', 'current', 'previous')
local began = tonumber(stored[1])
local current, previous = 0, 0
if began == start then
    current, previous = tonumber(stored[2]), tonumber(stored[3])
elseif began == start - period then
    previous = tonumber(stored[2])
end
local estimate = current + math.ceil(previous * (start + period - now) / period)

if estimate + quantity > limit then
    local remaining = math.max(limit - estimate, 0)
    local periods = current > 0 and 2 or previous > 0 and 1 or 0
    local reset_after = math.max(math.ceil(start + periods * period - now), 0)
    if quantity > limit then
        return {1, limit, remaining, -1, reset_after}
    end
    local room, at = limit - quantity - current
    if room >= 0 then
        at = start + period - room * period / previous
    else
        at = start + 2 * period - (limit - quantity) * period / current
    end
    return {1, limit, remaining, math.ceil(at - now), reset_after}
end

if began == start then
    redis.call('HINCRBY', KEYS[1], 'current', quantity)
else
    redis.call('HSET', KEYS[1], 'start', start, 'current', quantity, 'previous', previous)
    redis.call('PEXPIRE', KEYS[1], 2 * period * 1000)
end
return {0, limit, limit - estimate - quantity, -1, math.ceil(start + 2 * period - now)}

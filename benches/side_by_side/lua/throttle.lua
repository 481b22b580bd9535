-- GCRA. KEYS: the limiter. ARGV: max_burst, count, period in seconds, quantity.
-- The state is the theoretical arrival time (TAT) in microseconds, which a double holds exactly.
local max_burst, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local period, quantity = tonumber(ARGV[3]), tonumber(ARGV[4])
local interval = period * 1000000 / count
local limit = max_burst + 1
local tolerance = limit * interval

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('GET', KEYS[1])
local tat = stored and math.max(tonumber(stored), now) or now
local new_tat = tat + quantity * interval

if new_tat > now + tolerance then
    local remaining = math.floor((now + tolerance - tat) / interval)
    local retry_after = math.ceil((new_tat - now - tolerance) / 1000000)
    return {1, limit, remaining, retry_after, math.ceil((tat - now) / 1000000)}
end

if new_tat > now then
    -- Not tostring, which would cut the number down to 14 digits.
    redis.call('SET', KEYS[1], string.format('%.0f', new_tat), 'PX', math.ceil((new_tat - now) / 1000))
end
local remaining = math.floor((now + tolerance - new_tat) / interval)
return {0, limit, remaining, -1, math.ceil((new_tat - now) / 1000000)}

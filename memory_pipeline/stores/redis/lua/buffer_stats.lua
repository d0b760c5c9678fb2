-- How full the write buffer is.
--
-- KEYS: order, totals, aside
-- Returns entries, messages, bytes, the age of the oldest entry in microseconds (0 where there is none), and how many
-- entries are set aside.

local held = redis.call('HMGET', KEYS[2], 'messages', 'bytes')
local now = redis.call('TIME')
local oldest, age = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES'), 0
if oldest[2] then
    age = math.max(0, tonumber(now[1]) * 1000000 + tonumber(now[2]) - tonumber(oldest[2]))
end
return {
    redis.call('ZCARD', KEYS[1]),
    tonumber(held[1] or 0),
    tonumber(held[2] or 0),
    age,
    redis.call('HLEN', KEYS[3]),
}

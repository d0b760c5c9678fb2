-- Read a value and give it so long to live from now. The mark of a dropped value keeps its own time: it keeps new values
-- away, and would do so for as long as somebody asks.
-- KEYS[1] the key. ARGV[1] what stands for a dropped value, [2] seconds.
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[1] then
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return value

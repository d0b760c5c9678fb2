-- Read values and give each so long to live from now. The mark of a dropped value keeps its own time: it keeps new values
-- away, and would do so for as long as somebody asks.
-- KEYS the keys. ARGV[1] what stands for a dropped value, [2…] seconds, one for each key.
local values = redis.call('MGET', unpack(KEYS))
for position, value in ipairs(values) do
    if value and value ~= ARGV[1] then
        redis.call('EXPIRE', KEYS[position], ARGV[position + 1])
    end
end
return values

-- Which of the entries named are no longer in the write buffer, nor set aside.
--
-- KEYS: entries, aside
-- ARGV: ids
-- Returns the ids that are in neither.

local missing = {}
for _, id in ipairs(ARGV) do
    if redis.call('HEXISTS', KEYS[1], id) == 0 and redis.call('HEXISTS', KEYS[2], id) == 0 then
        missing[#missing + 1] = id
    end
end
return missing

-- Read the first entries of the write buffer, in order.
--
-- KEYS: order, entries
-- ARGV: most entries, most bytes (the first entry is answered however long it is)
-- Returns id, entry, id, entry, …

local answer, bytes = {}, 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
    bytes = bytes + redis.call('HSTRLEN', KEYS[2], id)
    if #answer > 0 and bytes > tonumber(ARGV[2]) then
        break
    end
    answer[#answer + 1] = id
    answer[#answer + 1] = redis.call('HGET', KEYS[2], id)
end
return answer

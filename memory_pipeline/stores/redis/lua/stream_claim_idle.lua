-- Gives a consumer entries that others have had for too long. Those that are gone from the stream (trimmed) are taken
-- off the group's list too: Redis 6 would offer them for ever. Returns {id, fields} each.
local answer = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], '0-0', 'COUNT', ARGV[4], 'JUSTID')
local found = {}
for _, id in ipairs(answer[2]) do
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
        found[#found + 1] = entry
    else
        redis.call('XACK', KEYS[1], ARGV[1], id)
    end
end
return found

-- Forgets consumers that have not been seen for ARGV[2] milliseconds and hold nothing: deleting one that holds an entry
-- would lose the entry to the group. Returns how many.
local forgotten = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
    return forgotten
end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local field = {}
    for i = 1, #consumer, 2 do
        field[consumer[i]] = consumer[i + 1]
    end
    if field['pending'] == 0 and field['idle'] > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field['name'])
        forgotten = forgotten + 1
    end
end
return forgotten

-- Take entries out of the write buffer and give back what they counted; an entry that is not there changes nothing.
--
-- KEYS: order, entries, counts, totals, aside (id -> entry)
-- ARGV: 1 to keep the entries in `aside`, else 0; then the ids
-- Returns how many were there, and the messages and bytes that the buffer holds now.

local order, entries, counts, totals, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local removed = 0
for place = 2, #ARGV do
    local id = ARGV[place]
    local entry = redis.call('HGET', entries, id)
    if entry then
        local messages = tonumber(redis.call('HGET', counts, id))
        -- Deleting first: it is allowed where memory is used up, and so is what follows in the same script.
        redis.call('HDEL', entries, id)
        redis.call('HDEL', counts, id)
        redis.call('ZREM', order, id)
        redis.call('HINCRBY', totals, 'messages', -messages)
        redis.call('HINCRBY', totals, 'bytes', -#entry)
        if ARGV[1] == '1' then
            redis.call('HSET', aside, id, entry)
        end
        removed = removed + 1
    end
end
if redis.call('EXISTS', order) == 0 then
    redis.call('DEL', totals)
end
local held = redis.call('HMGET', totals, 'messages', 'bytes')
return {removed, tonumber(held[1] or 0), tonumber(held[2] or 0)}

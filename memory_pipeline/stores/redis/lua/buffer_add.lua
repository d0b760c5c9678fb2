-- Take one entry into the write buffer, unless it would pass a bound.
--
-- KEYS: order (sorted set of entry ids), entries (id -> entry), counts (id -> messages), totals (messages, bytes)
-- ARGV: id, entry, messages, most messages, most bytes
-- Returns what happened ('added', 'present', 'full'), and the messages and bytes that the buffer holds now.

local order, entries, counts, totals = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, entry, added = ARGV[1], ARGV[2], tonumber(ARGV[3])

local held = redis.call('HMGET', totals, 'messages', 'bytes')
local messages, bytes = tonumber(held[1] or 0), tonumber(held[2] or 0)

-- A client that lost the first answer sends the same entry again.
if redis.call('HEXISTS', entries, id) == 1 then
    return {'present', messages, bytes}
end
if messages + added > tonumber(ARGV[4]) or bytes + #entry > tonumber(ARGV[5]) then
    return {'full', messages, bytes}
end

-- Ordered by the time of this server, one microsecond after the last entry at least, so that a clock set back changes
-- nothing and the clocks of the writers do not matter.
local now = redis.call('TIME')
local place = tonumber(now[1]) * 1000000 + tonumber(now[2])
local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= place then
    place = tonumber(last[2]) + 1
end

-- The first of these is the one that Redis refuses where its memory is used up; nothing has been written then.
redis.call('HSET', entries, id, entry)
redis.call('HSET', counts, id, added)
redis.call('ZADD', order, string.format('%.0f', place), id)
return {
    'added',
    redis.call('HINCRBY', totals, 'messages', added),
    redis.call('HINCRBY', totals, 'bytes', #entry),
}

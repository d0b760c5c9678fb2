-- KEYS: writers, metadata, messages, lease. ARGV[4] conversation, [5] lease, [6] tenant, [7] user, [8] metadata, then
-- the members. A lease that is still there means: nobody announced, appended or dropped since it was given, and every token
-- that was there then belonged to a writer that had ended. Answers stored, refused or full.
local conversation, lease = ARGV[4], ARGV[5]
if redis.call('GET', KEYS[4]) ~= lease or string.match(lease, '@(.+)$') ~= epoch then
    return 'refused'
end
local bytes = 0
local added = {}
for place = 9, #ARGV do
    bytes = bytes + #ARGV[place]
    added[#added + 1] = 0
    added[#added + 1] = ARGV[place]
end
local answer = redis.pcall('HSET', KEYS[2], 'tenant_id', ARGV[6], 'user_id', ARGV[7], 'epoch', epoch,
    'metadata', ARGV[8], 'bytes', bytes)
if type(answer) == 'table' and answer.err then
    return 'full'
end
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('ZADD', KEYS[3], unpack(added))
redis.call('EXPIRE', KEYS[2], lifetime)
redis.call('EXPIRE', KEYS[3], lifetime)
put_tokens(conversation, '')
return 'stored'

-- KEYS: writers, metadata, messages, lease. ARGV[4] conversation, [5] nonce, [6] most messages, [7] most bytes,
-- [8] tenant, [9] user, [10] metadata ([8] to [10] '' unless the writer's transaction made the conversation), then members.
-- Answers added, created, dropped (what was there could not be trusted or grew too large), absent or full.
local conversation, nonce = ARGV[4], ARGV[5]
local most_messages, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local tokens, found = take_token(conversation, nonce)
local stored = redis.call('HMGET', KEYS[2], 'epoch', 'bytes')
local exists = redis.call('EXISTS', KEYS[3]) == 1
local outcome = 'absent'
if exists and found and stored[1] == epoch then
    outcome = 'added'
elseif found and ARGV[8] ~= '' and redis.call('GET', KEYS[4]) == lease_value(nonce) then
    -- The lease of its announcement is still there: nobody else has announced, before it or since.
    outcome = 'created'
elseif exists then
    outcome = 'dropped'
end

local bytes = tonumber(stored[2] or '0')
if outcome == 'created' then
    bytes = 0
    local answer = redis.pcall('HSET', KEYS[2], 'tenant_id', ARGV[8], 'user_id', ARGV[9], 'epoch', epoch,
        'metadata', ARGV[10], 'bytes', 0)
    if type(answer) == 'table' and answer.err then
        outcome = 'full'
    else
        redis.call('DEL', KEYS[3])
    end
end
if outcome == 'added' or outcome == 'created' then
    for place = 11, #ARGV do
        local member = ARGV[place]
        -- The first write of the script: a full Redis refuses it, and nothing has been changed yet.
        local answer = redis.pcall('ZADD', KEYS[3], 0, member)
        if type(answer) == 'table' and answer.err then
            outcome = 'full'
            break
        end
        if answer == 1 then
            bytes = bytes + #member
            local order = string.sub(member, 1, 32)
            -- The same message in other words of JSON gives way. JSON text never holds the byte 255.
            for _, other in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. order, '(' .. order .. '\255')) do
                if other ~= member then
                    redis.call('ZREM', KEYS[3], other)
                    bytes = bytes - #other
                end
            end
        end
    end
end
if outcome == 'added' or outcome == 'created' then
    local surplus = redis.call('ZCARD', KEYS[3]) - most_messages
    if surplus > 0 then
        for _, oldest in ipairs(redis.call('ZRANGE', KEYS[3], 0, surplus - 1)) do
            bytes = bytes - #oldest
        end
        redis.call('ZREMRANGEBYRANK', KEYS[3], 0, surplus - 1)
    end
    if bytes > most_bytes then
        outcome = 'dropped'
    else
        redis.call('HSET', KEYS[2], 'bytes', bytes)
        redis.call('EXPIRE', KEYS[2], lifetime)
        redis.call('EXPIRE', KEYS[3], lifetime)
    end
end
if outcome ~= 'added' and outcome ~= 'created' then
    redis.call('DEL', KEYS[2], KEYS[3])
end
-- Of no use any more, and wrong should this writer have taken longer than it may.
redis.call('DEL', KEYS[4])
if found then
    put_tokens(conversation, tokens)
end
redis.call('EXPIRE', writers_key, lifetime)
return outcome

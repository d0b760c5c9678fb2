-- KEYS: writers, then the lease of each conversation. ARGV[4] nonce, then the conversation ids.
local nonce = ARGV[4]
if redis.call('HLEN', writers_key) > MOST_CONVERSATIONS_WRITTEN then
    begin_epoch()
end
for place = 2, #KEYS do
    local conversation = ARGV[place + 3]
    local tokens = tokens_of(conversation)
    -- A deletion comes first: after it a full Redis takes the small writes that follow.
    redis.call('DEL', KEYS[place])
    if settled() and not any_alive(tokens) then
        redis.call('SET', KEYS[place], lease_value(nonce), 'PX', writer_ms)
    end
    redis.call('HSET', writers_key, conversation, tokens .. nonce .. ':' .. string.format('%.0f', now) .. ';')
end
redis.call('EXPIRE', writers_key, lifetime)
return 1

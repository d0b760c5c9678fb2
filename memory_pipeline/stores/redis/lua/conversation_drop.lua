-- KEYS: writers, then metadata, messages and lease of each conversation. ARGV[4] nonce or '', then the conversation ids.
-- Without its lease a reader that is under way can't bring back what it read.
for place = 5, #ARGV do
    local first = 2 + (place - 5) * 3
    redis.call('DEL', KEYS[first], KEYS[first + 1], KEYS[first + 2])
    if ARGV[4] ~= '' then
        local tokens, found = take_token(ARGV[place], ARGV[4])
        if found then
            put_tokens(ARGV[place], tokens)
        end
    end
end
return 1

-- KEYS: writers. ARGV[4] nonce, then the conversation ids.
for place = 5, #ARGV do
    local tokens, found = take_token(ARGV[place], ARGV[4])
    if found then
        put_tokens(ARGV[place], tokens)
    end
end
return 1

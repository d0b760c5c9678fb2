-- Put before every script of the conversation cache (conversations.py tells the protocol).
--
-- KEYS[1] is the writers' key, one hash for all conversations: the epoch, and per conversation the tokens of the writers
-- that have announced themselves, as "nonce:milliseconds;" each. It is one key so that tokens can only be lost together
-- with the epoch. An epoch ends when the server is another one than before (a restart may have lost the last second) or
-- when the key is gone (flushed, evicted); lists of an older epoch count as absent.
-- ARGV[1] writers' life and ARGV[2] settling time, both in milliseconds; ARGV[3] lifetime of the keys in seconds.
local writers_key = KEYS[1]
local writer_ms, settle_ms, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local MOST_CONVERSATIONS_WRITTEN = 100000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local epoch, born

local function begin_epoch()
    epoch = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. ':' .. clock[1] .. ':' .. clock[2]
    born = now
    redis.call('DEL', writers_key)
    redis.call('HSET', writers_key, 'epoch', epoch)
    redis.call('EXPIRE', writers_key, lifetime)
end

epoch = redis.call('HGET', writers_key, 'epoch')
if epoch then
    local run_id, seconds, micros = string.match(epoch, '^(%x+):(%d+):(%d+)$')
    born = seconds * 1000 + math.floor(micros / 1000)
    if run_id ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or born > now then
        begin_epoch()
    end
else
    begin_epoch()
end

-- Whether every writer whose token went with the last epoch has ended by now.
local function settled()
    return now - born >= settle_ms
end

local function tokens_of(conversation)
    return redis.call('HGET', writers_key, conversation) or ''
end

-- Whether one of the tokens may belong to a transaction that is still open.
local function any_alive(tokens)
    for _, time in string.gmatch(tokens, '(%x+):(%d+);') do
        if now - tonumber(time) < writer_ms then
            return true
        end
    end
    return false
end

-- Remove a token; answer the tokens that remain and whether it was there.
local function take_token(conversation, nonce)
    local kept, found = {}, false
    for name, time in string.gmatch(tokens_of(conversation), '(%x+):(%d+);') do
        if name == nonce then
            found = true
        else
            kept[#kept + 1] = name .. ':' .. time .. ';'
        end
    end
    return table.concat(kept), found
end

local function put_tokens(conversation, tokens)
    if tokens == '' then
        redis.call('HDEL', writers_key, conversation)
    else
        redis.call('HSET', writers_key, conversation, tokens)
    end
end

-- A permission to store what is read from Postgres from now on.
local function lease_value(nonce)
    return nonce .. '@' .. epoch
end

-- KEYS: writers, metadata, messages, lease. ARGV[4] conversation, [5] tenant, [6] user, [7] nonce for a lease, [8] how
-- many of the newest messages. Answers {1, metadata, JSON array, count} or {0, lease}; the lease is '' where none is given.
local conversation, tenant, user, nonce, newest = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local stored = redis.call('HMGET', KEYS[2], 'tenant_id', 'user_id', 'epoch', 'metadata')
if stored[1] and (stored[1] ~= tenant or stored[2] ~= user) then
    return {0, ''}
end
local tokens = tokens_of(conversation)
if stored[3] == epoch and tokens == '' then
    local members = redis.call('ZRANGE', KEYS[3], -newest, -1)
    if #members > 0 then
        for place = 1, #members do
            members[place] = string.sub(members[place], 33)
        end
        return {1, stored[4], '[' .. table.concat(members, ',') .. ']', #members}
    end
end
if not settled() or any_alive(tokens) then
    return {0, ''}
end
local lease = lease_value(nonce)
local answer = redis.pcall('SET', KEYS[4], lease, 'PX', writer_ms)
if answer.err then
    return {0, ''}
end
return {0, lease}

-- ARGV[1] what stands for a dropped value, [2] milliseconds. The deletion comes first: after it a full Redis takes the rest.
for _, key in ipairs(KEYS) do
    redis.call('DEL', key)
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
end
return 1

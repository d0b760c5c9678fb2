INSERT INTO memory_access_log (tenant_id, user_id, correlation_id, what, channel, query_hash, memory_ids, turns,
                               degraded_parts, from_cache, milliseconds)
VALUES (%(tenant_id)s, %(user_id)s, %(correlation_id)s, %(what)s, %(channel)s, %(query_hash)s, %(memory_ids)s::uuid[],
        %(turns)s, %(degraded_parts)s::text[], %(from_cache)s, %(milliseconds)s)

SELECT (accessed_at AT TIME ZONE 'UTC')::date AS day, tenant_id, access_id, user_id, accessed_at, correlation_id, what,
       channel, query_hash, memories, memory_ids, turns, degraded, degraded_parts, from_cache, milliseconds
FROM memory_access_log
WHERE accessed_at >= current_setting('export.start_time')::timestamptz
  AND accessed_at < current_setting('export.end_time')::timestamptz
ORDER BY accessed_at, tenant_id, access_id

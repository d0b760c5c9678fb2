SELECT day, tenant_id, memory_id AS profile_id, user_id, status, content,
       cardinality(source_message_ids)::bigint AS source_messages, raw_data, version, created_at, updated_at
FROM memories
WHERE kind = 'profile'
  AND day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
  AND status <> 'deleted'
ORDER BY day, memory_id, tenant_id

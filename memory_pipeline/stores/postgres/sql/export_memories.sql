-- Every kind of memory, without vectors, without the text of failures, and without the tombstones of deleted ones.
-- Sorted by what differs first: to compare tenants before ids takes half as long again.
SELECT day, tenant_id, memory_id, user_id, conversation_id, kind, status, content, content_hash, source_message_ids,
       project, raw_data, enricher, confidence, valid_from, valid_to, superseded_by, attempts, failure_class, version,
       created_at, updated_at
FROM memories
WHERE day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
  AND status <> 'deleted'
ORDER BY day, memory_id, tenant_id

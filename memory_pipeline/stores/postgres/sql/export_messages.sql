-- In order of time rather than of tenant: the index on sent_at then gives most of the order, so that rows flow at once
-- and a window of years needs no sort of its own. Ties are broken by the key, so the order is total.
SELECT (sent_at AT TIME ZONE 'UTC')::date AS day, tenant_id, message_id, conversation_id, user_id, source,
       source_message_id, role, speaker, content, content_hash, sent_at, position, raw_data, received_at
FROM messages
WHERE sent_at >= current_setting('export.start_time')::timestamptz
  AND sent_at < current_setting('export.end_time')::timestamptz
ORDER BY sent_at, tenant_id, message_id

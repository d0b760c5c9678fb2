SELECT day, tenant_id, memory_id AS fact_id, user_id, conversation_id, source_message_ids[1] AS source_message_id,
       status, content AS statement, subject, predicate, object, negated, slot, confidence, valid_from, valid_to,
       superseded_by, enricher, created_at
FROM memories
WHERE kind = 'fact'
  AND day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
  AND status <> 'deleted'
ORDER BY day, memory_id, tenant_id

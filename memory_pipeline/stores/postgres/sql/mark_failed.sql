-- These (locked) memories to the dead letters, with the reason of each, and what it takes to name the message they are of.
UPDATE memories m SET
    status = 'failed', failure_class = f.failure_class, failure_text = f.failure_text,
    attempts = m.attempts + 1, version = m.version + 1, updated_at = now()
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[], %(failure_classes)s::text[], %(failure_texts)s::text[])
    AS f (tenant_id, memory_id, failure_class, failure_text)
WHERE m.tenant_id = f.tenant_id AND m.memory_id = f.memory_id
RETURNING m.tenant_id, m.memory_id, m.kind, m.source_message_ids[1]

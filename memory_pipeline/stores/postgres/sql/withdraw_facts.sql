-- Facts that the same enricher once found in these messages and does not find any more.
UPDATE memories m SET
    status = 'deleted', raw_data = raw_data || '{"deleted_by": "enricher"}', version = version + 1, updated_at = now()
FROM unnest(%(tenant_ids)s::uuid[], %(message_ids)s::uuid[]) AS read (tenant_id, message_id)
WHERE m.kind = 'fact' AND m.status <> 'deleted'
  AND m.tenant_id = read.tenant_id AND m.source_message_ids[1] = read.message_id
  AND split_part(m.enricher, '@', 1) = split_part(%(enricher)s, '@', 1)
  AND NOT EXISTS (SELECT FROM found_fact f WHERE f.tenant_id = m.tenant_id AND f.memory_id = m.memory_id)

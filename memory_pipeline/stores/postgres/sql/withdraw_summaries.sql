-- Summaries of a week for users of these tenants who (now) said nothing in it.
UPDATE memories m SET
    status = 'deleted', raw_data = raw_data || '{"deleted_by": "summarizer"}', version = version + 1, updated_at = now()
WHERE m.kind = 'summary' AND m.day >= %(week)s AND m.day < %(week)s::date + 7 AND m.status <> 'deleted'
  AND (m.tenant_id IN (SELECT unnest(%(tenant_ids)s::uuid[]))) IS TRUE  -- see due_episodes
  AND NOT EXISTS (SELECT FROM unnest(%(kept)s::uuid[]) AS kept (memory_id) WHERE kept.memory_id = m.memory_id)

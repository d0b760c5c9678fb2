-- Memories among the dead letters that these jobs are about, and facts found in them: to be worked on again. What was read
-- by an enricher needs no reading, only its vector.
UPDATE memories m SET
    status = CASE WHEN m.kind = 'episode' AND m.enricher IS NULL THEN 'pending_enrichment' ELSE 'active' END,
    failure_class = NULL, failure_text = NULL, version = m.version + 1, updated_at = now()
FROM memory_jobs j
JOIN unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[]) AS retried (tenant_id, job_id) USING (tenant_id, job_id)
JOIN memories named ON named.tenant_id = j.tenant_id AND named.memory_id = j.subject_id
WHERE m.tenant_id = named.tenant_id AND m.status = 'failed'
  AND (m.memory_id = named.memory_id
       OR m.kind = 'fact' AND m.source_message_ids[1] = named.source_message_ids[1])

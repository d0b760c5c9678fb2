-- Ends jobs (locked before) whose work somebody else has done, or found impossible: those with an error class. What a
-- job failed of before may quote a message, so it goes where the memory is gone.
UPDATE memory_jobs j
SET state = CASE WHEN s.error_class IS NULL THEN 'completed' ELSE 'dead' END,
    finished_at = clock_timestamp(),
    claimed_by = %(settled_by)s,
    claim_token = NULL,
    lease_until = NULL,
    error_class = coalesce(s.error_class, j.error_class),
    error_text = CASE
        WHEN s.error_class IS NOT NULL THEN s.error_text
        WHEN EXISTS (SELECT FROM memories m WHERE m.tenant_id = j.tenant_id AND m.memory_id = j.subject_id)
        THEN j.error_text
    END
FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(error_classes)s::text[], %(error_texts)s::text[])
    AS s (tenant_id, job_id, error_class, error_text)
WHERE j.tenant_id = s.tenant_id AND j.job_id = s.job_id

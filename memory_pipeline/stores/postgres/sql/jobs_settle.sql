-- Ends jobs (locked before) whose work somebody else has done, or found impossible: those with an error class.
UPDATE memory_jobs j
SET state = CASE WHEN s.error_class IS NULL THEN 'completed' ELSE 'dead' END,
    finished_at = clock_timestamp(),
    claimed_by = %(settled_by)s,
    claim_token = NULL,
    lease_until = NULL,
    error_class = coalesce(s.error_class, j.error_class),
    error_text = coalesce(s.error_text, j.error_text)
FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(error_classes)s::text[], %(error_texts)s::text[])
    AS s (tenant_id, job_id, error_class, error_text)
WHERE j.tenant_id = s.tenant_id AND j.job_id = s.job_id

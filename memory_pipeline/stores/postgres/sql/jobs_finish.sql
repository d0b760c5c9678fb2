WITH held AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(tokens)s::uuid[]) AS c (tenant_id, job_id, token)
    JOIN memory_jobs j ON j.tenant_id = c.tenant_id AND j.job_id = c.job_id AND j.claim_token = c.token
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
)
UPDATE memory_jobs j
SET state = 'completed', finished_at = clock_timestamp(), claim_token = NULL, lease_until = NULL
FROM held h
WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id
RETURNING j.tenant_id, j.job_id

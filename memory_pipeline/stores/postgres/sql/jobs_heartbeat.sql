WITH held AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(tokens)s::uuid[]) AS c (tenant_id, job_id, token)
    JOIN memory_jobs j ON j.tenant_id = c.tenant_id AND j.job_id = c.job_id AND j.claim_token = c.token
    -- In one order: a heartbeat and a finish of the same claims never wait for each other.
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
)
UPDATE memory_jobs j
SET lease_until = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 second'
FROM held h
WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id
RETURNING j.tenant_id, j.job_id

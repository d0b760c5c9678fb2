-- Unless something has happened to the job since: then whatever it was has seen to it.
WITH forgotten AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(published)s::timestamptz[])
        AS k (tenant_id, job_id, published_at)
    JOIN memory_jobs j ON j.tenant_id = k.tenant_id AND j.job_id = k.job_id AND j.published_at = k.published_at
    WHERE j.state IN ('pending', 'failed')
    FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE memory_jobs j
SET published_at = NULL
FROM forgotten f
WHERE j.tenant_id = f.tenant_id AND j.job_id = f.job_id

WITH old AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state = 'completed' AND finished_at < clock_timestamp() - %(retention_days)s * interval '1 day'
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM memory_jobs j
USING old o
WHERE j.tenant_id = o.tenant_id AND j.job_id = o.job_id

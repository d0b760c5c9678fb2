-- By state, never by "ids above the last one": a slow transaction commits a smaller id later. What another relay or a
-- worker holds is left out.
WITH unpublished AS MATERIALIZED (
    SELECT tenant_id, job_id, priority, available_at
    FROM memory_jobs
    WHERE state IN ('pending', 'failed') AND published_at IS NULL AND available_at <= clock_timestamp()
    ORDER BY priority, available_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE memory_jobs j
    SET published_at = clock_timestamp()
    FROM unpublished u
    WHERE j.tenant_id = u.tenant_id AND j.job_id = u.job_id
    RETURNING j.tenant_id, j.job_id, j.claimed_alone, j.priority, j.available_at
)
SELECT tenant_id, job_id, claimed_alone, extract(epoch FROM clock_timestamp() - available_at)::float8
FROM marked
ORDER BY priority, available_at

-- Makes due what would wait longer than any job does: the clock was set back after it was written.
WITH far AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state IN ('pending', 'failed')
      AND available_at > clock_timestamp() + %(longest_wait_seconds)s::float8 * interval '1 second'
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE memory_jobs j
SET available_at = clock_timestamp(),
    published_at = NULL  -- what the stream holds of it was taken when it was not due, or will find it done
FROM far f
WHERE j.tenant_id = f.tenant_id AND j.job_id = f.job_id

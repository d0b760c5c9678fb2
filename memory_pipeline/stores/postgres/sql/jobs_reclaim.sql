-- Takes away claims whose lease is over. A lease that ends later than any can is of a clock that was set back since.
WITH expired AS MATERIALIZED (
    SELECT tenant_id, job_id, attempts >= %(max_attempts)s AS is_dead
    FROM memory_jobs
    WHERE state = 'processing'
      AND (lease_until < clock_timestamp()
           OR lease_until > clock_timestamp() + %(longest_lease_seconds)s::float8 * interval '1 second')
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE memory_jobs j
SET state = CASE WHEN e.is_dead THEN 'dead' ELSE 'failed' END,
    finished_at = CASE WHEN e.is_dead THEN clock_timestamp() END,
    available_at = clock_timestamp(),
    published_at = NULL,
    claimed_alone = true,
    claim_token = NULL,
    lease_until = NULL,
    error_class = %(error_class)s,
    error_text = format('%%s neither finished it nor renewed its lease, which ended at %%s (attempt %%s)',
                        j.claimed_by, j.lease_until, j.attempts)
FROM expired e
WHERE j.tenant_id = e.tenant_id AND j.job_id = e.job_id
RETURNING j.tenant_id, j.job_id, j.state, j.job_type, j.subject_id, j.user_id, j.attempts, j.correlation_id

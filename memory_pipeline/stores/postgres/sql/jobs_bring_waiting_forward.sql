-- What is put aside becomes due soon; what somebody works on, or is about to, is left out.
WITH waiting AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state = 'pending' AND job_type = ANY(%(job_types)s)
      AND available_at > clock_timestamp() + %(seconds)s::float8 * interval '1 second'
    ORDER BY tenant_id, job_id
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE memory_jobs j
SET available_at = clock_timestamp() + %(seconds)s::float8 * interval '1 second'
FROM waiting w
WHERE j.tenant_id = w.tenant_id AND j.job_id = w.job_id

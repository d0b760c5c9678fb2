-- One page, the longest dead first. %%(died_before)s keeps what dies again from being retried for ever.
WITH page AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state = 'dead'
      AND finished_at < %(died_before)s
      AND job_type = ANY (%(job_types)s::text[])
      AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
      AND (%(job_id)s::uuid IS NULL OR job_id = %(job_id)s)
    ORDER BY finished_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE memory_jobs j
SET state = 'pending', attempts = 0, available_at = clock_timestamp(), published_at = NULL, finished_at = NULL
FROM page p
WHERE j.tenant_id = p.tenant_id AND j.job_id = p.job_id
RETURNING j.tenant_id, j.job_id

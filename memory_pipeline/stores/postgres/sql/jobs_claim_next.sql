-- Claims the next jobs that are due. If the first of them has to be claimed alone, it alone; else those that need not be.
WITH candidate AS MATERIALIZED (
    SELECT tenant_id, job_id, claimed_alone, priority, available_at
    FROM memory_jobs
    WHERE state IN ('pending', 'failed')
      AND available_at <= clock_timestamp()
      AND job_type = ANY (%(job_types)s::text[])
      AND day BETWEEN %(first_day)s AND %(last_day)s
    ORDER BY priority, available_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
), placed AS (
    SELECT *, row_number() OVER by_turn AS place, first_value(claimed_alone) OVER by_turn AS first_is_alone
    FROM candidate
    WINDOW by_turn AS (ORDER BY priority, available_at)
), picked AS (
    SELECT tenant_id, job_id FROM placed WHERE CASE WHEN first_is_alone THEN place = 1 ELSE NOT claimed_alone END
)
UPDATE memory_jobs j
SET state = 'processing',
    attempts = j.attempts + 1,
    claim_token = gen_random_uuid(),
    claimed_by = %(worker)s,
    lease_until = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 second'
FROM picked p
WHERE j.tenant_id = p.tenant_id AND j.job_id = p.job_id
RETURNING j.tenant_id, j.job_id, j.claim_token, j.job_type, j.subject_id, j.user_id, j.day, j.payload, j.attempts,
          j.claimed_alone, j.correlation_id, j.created_at

-- Claims those of the named jobs that are due and not locked; one that has to be claimed alone only where %%(alone)s.
WITH picked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[]) AS k (tenant_id, job_id)
    JOIN memory_jobs j ON j.tenant_id = k.tenant_id AND j.job_id = k.job_id
    WHERE j.state IN ('pending', 'failed')
      AND j.available_at <= clock_timestamp()
      AND (%(alone)s OR NOT j.claimed_alone)
    FOR NO KEY UPDATE OF j SKIP LOCKED
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

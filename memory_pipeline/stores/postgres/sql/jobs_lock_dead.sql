-- Those of the named jobs that are still dead, and that nobody ever claimed.
SELECT j.tenant_id, j.job_id, j.subject_id, j.correlation_id
FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[]) AS k (tenant_id, job_id)
JOIN memory_jobs j ON j.tenant_id = k.tenant_id AND j.job_id = k.job_id
WHERE j.state = 'dead' AND j.attempts = 0
ORDER BY j.tenant_id, j.job_id
FOR NO KEY UPDATE OF j SKIP LOCKED

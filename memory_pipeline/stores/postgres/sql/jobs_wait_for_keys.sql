-- Waits for whoever holds one of the named jobs that are still to be done; in one order, so that no two wait in a circle.
SELECT j.job_id
FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[]) AS k (tenant_id, job_id)
JOIN memory_jobs j ON j.tenant_id = k.tenant_id AND j.job_id = k.job_id
WHERE j.state IN ('pending', 'failed') AND j.available_at <= clock_timestamp()
ORDER BY j.tenant_id, j.job_id
FOR NO KEY UPDATE OF j

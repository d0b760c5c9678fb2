-- Locks those of the claims that still hold, in the order in which everybody locks jobs.
SELECT
FROM unnest(%(tenant_ids)s::uuid[], %(job_ids)s::uuid[], %(tokens)s::uuid[]) AS c (tenant_id, job_id, token)
JOIN memory_jobs j ON j.tenant_id = c.tenant_id AND j.job_id = c.job_id AND j.claim_token = c.token
ORDER BY j.tenant_id, j.job_id
FOR NO KEY UPDATE OF j

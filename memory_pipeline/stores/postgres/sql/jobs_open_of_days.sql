-- Jobs of these days that nobody works on: still to be claimed, or claimed by a worker that let its lease end. One branch
-- for each partial index.
SELECT tenant_id, job_id
FROM memory_jobs
WHERE state IN ('pending', 'failed')
  AND job_type = ANY (%(job_types)s::text[]) AND day >= %(start)s AND day < %(end)s
UNION ALL
SELECT tenant_id, job_id
FROM memory_jobs
WHERE state = 'processing' AND lease_until < clock_timestamp()
  AND job_type = ANY (%(job_types)s::text[]) AND day >= %(start)s AND day < %(end)s
ORDER BY tenant_id, job_id

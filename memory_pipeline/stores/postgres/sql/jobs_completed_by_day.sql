-- What workers completed from %%(after)s up to %%(until)s, by day and type; what a run settled, the run has told itself.
SELECT j.day, j.job_type, count(*) AS jobs, count(DISTINCT j.tenant_id) AS tenants
FROM tenants t
CROSS JOIN unnest(%(job_types)s::text[]) AS k (job_type)
JOIN memory_jobs j ON j.tenant_id = t.tenant_id AND j.job_type = k.job_type AND j.state = 'completed'
    AND j.finished_at >= %(after)s AND j.finished_at < %(until)s
WHERE NOT starts_with(j.claimed_by, %(settlers)s)
GROUP BY j.day, j.job_type
ORDER BY j.day, j.job_type

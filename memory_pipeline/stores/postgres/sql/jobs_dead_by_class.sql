SELECT job_type, error_class, count(*) AS jobs, min(finished_at) AS oldest, max(finished_at) AS newest
FROM memory_jobs
WHERE state = 'dead'
GROUP BY job_type, error_class
ORDER BY jobs DESC, job_type, error_class

-- Dead jobs of these days by type and error class, the newest of each with its text.
SELECT DISTINCT ON (job_type, error_class) job_type, error_class, error_text,
       count(*) OVER (PARTITION BY job_type, error_class) AS jobs, finished_at AS newest
FROM memory_jobs
WHERE state = 'dead' AND day >= %(start)s AND day < %(end)s
ORDER BY job_type, error_class, finished_at DESC, job_id

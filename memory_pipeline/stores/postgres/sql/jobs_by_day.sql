-- What is due, by the day it belongs to.
SELECT day, job_type, count(*) AS jobs,
       extract(epoch FROM clock_timestamp() - min(available_at))::float8 AS oldest_seconds
FROM memory_jobs
WHERE state IN ('pending', 'failed') AND available_at <= clock_timestamp()
GROUP BY day, job_type
ORDER BY day, job_type

SELECT job_type, day,
       quantile_disc(date_diff('millisecond', created_at, finished_at), 0.50) / 1000 AS p50,
       quantile_disc(date_diff('millisecond', created_at, finished_at), 0.95) / 1000 AS p95
FROM jobs
WHERE state = 'completed' AND day > (SELECT max(day) FROM jobs) - 90
GROUP BY job_type, day
ORDER BY job_type, day

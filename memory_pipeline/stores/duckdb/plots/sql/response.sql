WITH lags AS (
    SELECT job_type, day, date_diff('millisecond', created_at, finished_at) / 1000 AS lag, count(*) AS jobs
    FROM jobs
    WHERE state = 'completed'
    GROUP BY job_type, day, lag
    UNION ALL
    SELECT job_type, day, lag_seconds, sum(completed) AS jobs
    FROM job_days
    GROUP BY job_type, day, lag_seconds
), ranked AS (
    SELECT job_type, day, lag,
           sum(jobs) OVER (PARTITION BY job_type, day ORDER BY lag) AS within,
           sum(jobs) OVER (PARTITION BY job_type, day) AS completed
    FROM lags
    WHERE day > (SELECT max(day) FROM mart_pipeline_response) - 90
)
SELECT job_type, day,
       min(lag) FILTER (within * 100 >= completed * 50) AS p50,
       min(lag) FILTER (within * 100 >= completed * 95) AS p95
FROM ranked
GROUP BY job_type, day
ORDER BY job_type, day

-- How fast and how well the pipeline answered: a row for each UTC day and type of job.
SELECT day, job_type, jobs, completed, failed, open, failure_rate, attempts, most_attempts, lag_p50_seconds, lag_p95_seconds,
       lag_p99_seconds
FROM mart_pipeline_response
WHERE tenant_id = $tenant_id AND day BETWEEN $first_day AND $last_day
ORDER BY day DESC, job_type
LIMIT $rows

-- The middle of a bucket, by its logarithm, stands for the lags in it: at most 4.5 % off.
SELECT day, tenant_id, job_type, lag_bucket, power(2, (lag_bucket - 0.5::double precision) / 8) / 1000 AS lag_seconds,
       completed, attempts, most_attempts
FROM memory_job_days
WHERE day >= current_setting('export.start_day')::date AND day < current_setting('export.end_day')::date
ORDER BY day, tenant_id, job_type, lag_bucket

-- How long work waited and took, and how much of it failed. The lag of a job is from when it was asked for to its
-- completion, retries included; of jobs that left the ledger it is known to 4.5 %.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id, job_type
CREATE OR REPLACE TABLE mart_pipeline_response AS
WITH counted AS (
    SELECT day, tenant_id, job_type,
           count(*) AS jobs,
           count(*) FILTER (state = 'completed') AS completed,
           count(*) FILTER (state IN ('failed', 'dead')) AS failed,
           count(*) FILTER (state IN ('pending', 'processing')) AS open,
           sum(attempts) AS attempts,
           max(attempts) AS most_attempts
    FROM jobs
    GROUP BY day, tenant_id, job_type
    UNION ALL
    SELECT day, tenant_id, job_type, completed, completed, 0, 0, attempts, most_attempts
    FROM job_days
), totals AS (
    SELECT day, tenant_id, job_type,
           sum(jobs)::BIGINT AS jobs,
           sum(completed)::BIGINT AS completed,
           sum(failed)::BIGINT AS failed,
           sum(open)::BIGINT AS open,
           sum(attempts)::BIGINT AS attempts,
           max(most_attempts) AS most_attempts
    FROM counted
    GROUP BY day, tenant_id, job_type
), lags AS (
    SELECT day, tenant_id, job_type, date_diff('millisecond', created_at, finished_at) / 1000 AS lag, count(*) AS jobs
    FROM jobs
    WHERE state = 'completed'
    GROUP BY day, tenant_id, job_type, lag
    UNION ALL
    SELECT day, tenant_id, job_type, lag_seconds, completed
    FROM job_days
), ranked AS (
    SELECT day, tenant_id, job_type, lag,
           sum(jobs) OVER (PARTITION BY day, tenant_id, job_type ORDER BY lag) AS within,
           sum(jobs) OVER (PARTITION BY day, tenant_id, job_type) AS completed
    FROM lags
), percentiles AS (
    SELECT day, tenant_id, job_type,
           min(lag) FILTER (within * 100 >= completed * 50) AS lag_p50_seconds,
           min(lag) FILTER (within * 100 >= completed * 95) AS lag_p95_seconds,
           min(lag) FILTER (within * 100 >= completed * 99) AS lag_p99_seconds
    FROM ranked
    GROUP BY day, tenant_id, job_type
)
SELECT j.day, j.tenant_id, t.slug AS tenant, j.job_type, j.jobs, j.completed, j.failed, j.open,
       j.failed / j.jobs AS failure_rate, j.attempts, j.most_attempts, p.lag_p50_seconds, p.lag_p95_seconds,
       p.lag_p99_seconds
FROM totals j
JOIN tenants t USING (tenant_id)
LEFT JOIN percentiles p USING (day, tenant_id, job_type)
ORDER BY j.day, j.tenant_id, j.job_type;
COMMENT ON TABLE mart_pipeline_response IS 'How fast and how well the pipeline answered: one row per tenant, UTC day and type of job.';
COMMENT ON COLUMN mart_pipeline_response.day IS 'UTC day on which the work was asked for.'; -- DATE from jobs.day, job_days.day
COMMENT ON COLUMN mart_pipeline_response.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from jobs.tenant_id, job_days.tenant_id
COMMENT ON COLUMN mart_pipeline_response.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_pipeline_response.job_type IS 'What was to be done.'; -- VARCHAR from jobs.job_type, job_days.job_type
COMMENT ON COLUMN mart_pipeline_response.jobs IS 'Jobs in all.'; -- BIGINT from jobs.job_id, job_days.completed
COMMENT ON COLUMN mart_pipeline_response.completed IS 'Jobs that are done, those that left the ledger included.'; -- BIGINT from jobs.state, job_days.completed
COMMENT ON COLUMN mart_pipeline_response.failed IS 'Jobs whose last try failed, those given up included.'; -- BIGINT from jobs.state
COMMENT ON COLUMN mart_pipeline_response.open IS 'Jobs that wait or are at work.'; -- BIGINT from jobs.state
COMMENT ON COLUMN mart_pipeline_response.failure_rate IS 'failed / jobs, 0 to 1.'; -- DOUBLE from jobs.state, job_days.completed
COMMENT ON COLUMN mart_pipeline_response.attempts IS 'Tries in all.'; -- BIGINT from jobs.attempts, job_days.attempts
COMMENT ON COLUMN mart_pipeline_response.most_attempts IS 'Most tries of one job.'; -- INTEGER from jobs.attempts, job_days.most_attempts
COMMENT ON COLUMN mart_pipeline_response.lag_p50_seconds IS 'Half of the completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at, job_days.lag_seconds, job_days.completed
COMMENT ON COLUMN mart_pipeline_response.lag_p95_seconds IS '95 of 100 completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at, job_days.lag_seconds, job_days.completed
COMMENT ON COLUMN mart_pipeline_response.lag_p99_seconds IS '99 of 100 completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at, job_days.lag_seconds, job_days.completed

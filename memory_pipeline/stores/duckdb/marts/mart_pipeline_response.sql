-- How long work waited and took, and how much of it failed. The lag of a job is from when it was asked for to its
-- completion, retries included.
-- Key: day, tenant_id, job_type
CREATE OR REPLACE TABLE mart_pipeline_response AS
SELECT j.day, j.tenant_id, t.slug AS tenant, j.job_type,
       count(*) AS jobs,
       count(*) FILTER (j.state = 'completed') AS completed,
       count(*) FILTER (j.state IN ('failed', 'dead')) AS failed,
       count(*) FILTER (j.state IN ('pending', 'processing')) AS open,
       count(*) FILTER (j.state IN ('failed', 'dead')) / count(*) AS failure_rate,
       sum(j.attempts)::BIGINT AS attempts,
       max(j.attempts) AS most_attempts,
       quantile_disc(date_diff('millisecond', j.created_at, j.finished_at), 0.50) FILTER (j.state = 'completed')
           / 1000 AS lag_p50_seconds,
       quantile_disc(date_diff('millisecond', j.created_at, j.finished_at), 0.95) FILTER (j.state = 'completed')
           / 1000 AS lag_p95_seconds,
       quantile_disc(date_diff('millisecond', j.created_at, j.finished_at), 0.99) FILTER (j.state = 'completed')
           / 1000 AS lag_p99_seconds
FROM jobs j
JOIN tenants t USING (tenant_id)
GROUP BY j.day, j.tenant_id, t.slug, j.job_type
ORDER BY j.day, j.tenant_id, j.job_type;
COMMENT ON TABLE mart_pipeline_response IS 'How fast and how well the pipeline answered: one row per tenant, UTC day and type of job.';
COMMENT ON COLUMN mart_pipeline_response.day IS 'UTC day on which the work was asked for.'; -- DATE from jobs.day
COMMENT ON COLUMN mart_pipeline_response.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from jobs.tenant_id
COMMENT ON COLUMN mart_pipeline_response.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_pipeline_response.job_type IS 'What was to be done.'; -- VARCHAR from jobs.job_type
COMMENT ON COLUMN mart_pipeline_response.jobs IS 'Jobs in all.'; -- BIGINT from jobs.job_id
COMMENT ON COLUMN mart_pipeline_response.completed IS 'Jobs that are done.'; -- BIGINT from jobs.state
COMMENT ON COLUMN mart_pipeline_response.failed IS 'Jobs whose last try failed, those given up included.'; -- BIGINT from jobs.state
COMMENT ON COLUMN mart_pipeline_response.open IS 'Jobs that wait or are at work.'; -- BIGINT from jobs.state
COMMENT ON COLUMN mart_pipeline_response.failure_rate IS 'failed / jobs, 0 to 1.'; -- DOUBLE from jobs.state
COMMENT ON COLUMN mart_pipeline_response.attempts IS 'Tries in all.'; -- BIGINT from jobs.attempts
COMMENT ON COLUMN mart_pipeline_response.most_attempts IS 'Most tries of one job.'; -- INTEGER from jobs.attempts
COMMENT ON COLUMN mart_pipeline_response.lag_p50_seconds IS 'Half of the completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at
COMMENT ON COLUMN mart_pipeline_response.lag_p95_seconds IS '95 of 100 completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at
COMMENT ON COLUMN mart_pipeline_response.lag_p99_seconds IS '99 of 100 completed jobs were done within this.'; -- DOUBLE from jobs.created_at, jobs.finished_at

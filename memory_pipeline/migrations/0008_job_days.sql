-- What is kept of completed jobs when their rows leave the ledger: how many there were, how often they were tried and how
-- long they took, by the day they were asked for. Written by the statement that deletes the rows.
CREATE TABLE memory_job_days (
    tenant_id      uuid NOT NULL REFERENCES tenants,
    day            date NOT NULL,
    job_type       text NOT NULL,
    lag_bucket     smallint NOT NULL CHECK (lag_bucket >= 0),
    completed      bigint NOT NULL CHECK (completed > 0),
    attempts       bigint NOT NULL CHECK (attempts >= 0),
    most_attempts  integer NOT NULL CHECK (most_attempts >= 0),
    PRIMARY KEY (tenant_id, day, job_type, lag_bucket)
);
COMMENT ON TABLE memory_job_days IS 'Completed jobs that left the ledger, counted by UTC day, type and lag; a job is either here or in memory_jobs.';
COMMENT ON COLUMN memory_job_days.day IS 'UTC day on which the work was asked for (created_at of the jobs).';
COMMENT ON COLUMN memory_job_days.lag_bucket IS 'Bucket b holds lags of more than 2^((b-1)/8) and at most 2^(b/8) milliseconds; 0 those of at most one. Counts of a bucket can be added, percentiles can not.';
COMMENT ON COLUMN memory_job_days.attempts IS 'Tries of these jobs in all.';
COMMENT ON COLUMN memory_job_days.most_attempts IS 'Most tries of one of them.';

-- No user is in it, so an erasure leaves it alone.
ALTER TABLE memory_job_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_job_days FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON memory_job_days TO memory_app
    USING (tenant_id = (SELECT current_tenant_id())) WITH CHECK (tenant_id = (SELECT current_tenant_id()));
CREATE POLICY pipeline_all_tenants ON memory_job_days TO memory_pipeline USING (true) WITH CHECK (true);
GRANT SELECT ON memory_job_days TO memory_app;
GRANT SELECT, INSERT, UPDATE, MAINTAIN ON memory_job_days TO memory_pipeline;

-- One statement deletes the rows and adds them to the totals of their day, so a job is always counted once: what this
-- deleted is not there to be added again. Buckets as memory_job_days says; those of one call are written in order of
-- their key, because several relays may do this at once.
WITH old AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state = 'completed' AND finished_at < clock_timestamp() - %(retention_days)s * interval '1 day'
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM memory_jobs j
    USING old o
    WHERE j.tenant_id = o.tenant_id AND j.job_id = o.job_id
    RETURNING j.tenant_id, (j.created_at AT TIME ZONE 'UTC')::date AS day, j.job_type, j.attempts,
              ceil(round(8 * log(2, greatest(extract(epoch FROM j.finished_at - j.created_at) * 1000, 1)), 9))::smallint
                  AS lag_bucket
), kept AS (
    INSERT INTO memory_job_days AS d (tenant_id, day, job_type, lag_bucket, completed, attempts, most_attempts)
    SELECT tenant_id, day, job_type, lag_bucket, count(*), sum(attempts), max(attempts)
    FROM gone
    GROUP BY tenant_id, day, job_type, lag_bucket
    ORDER BY tenant_id, day, job_type, lag_bucket
    ON CONFLICT (tenant_id, day, job_type, lag_bucket) DO UPDATE
    SET completed = d.completed + excluded.completed,
        attempts = d.attempts + excluded.attempts,
        most_attempts = greatest(d.most_attempts, excluded.most_attempts)
)
SELECT count(*) FROM gone

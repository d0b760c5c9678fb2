-- Makes due what waits because the clock was set back. That shows in jobs added or completed later than now (a second is
-- left to clocks that are only being adjusted): then all that waits is made due, for what was put aside before the step
-- can't be told from what was since. And whatever the clock did, what would wait longer than any job does is made due.
-- At most so many at once, and what was added first before the rest: what shows the step goes last, so that the next call
-- still sees it.
WITH clock AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM memory_jobs
                   WHERE state IN ('pending', 'failed') AND created_at > clock_timestamp() + interval '1 second')
           OR EXISTS (SELECT FROM memory_jobs
                      WHERE state = 'completed' AND finished_at > clock_timestamp() + interval '1 second') AS set_back
), held_up AS MATERIALIZED (
    SELECT tenant_id, job_id
    FROM memory_jobs
    WHERE state IN ('pending', 'failed')
      AND available_at > clock_timestamp()
          + CASE WHEN (SELECT set_back FROM clock) THEN 0 ELSE %(longest_wait_seconds)s::float8 END * interval '1 second'
    ORDER BY created_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE memory_jobs j
SET available_at = clock_timestamp(),
    created_at = least(j.created_at, clock_timestamp()),  -- so that its age is counted from here on
    published_at = NULL  -- what the stream holds of it was taken when it was not due, or will find it done
FROM held_up h
WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id

-- What is due, since when the oldest job is still to be done (put aside, retried or in work as it may be), and since when
-- the oldest waits for the relay. A job added later than now is of a clock that was set back since: it counts as that old.
SELECT count(*) FILTER (WHERE due) AS due,
       coalesce(extract(epoch FROM greatest(clock_timestamp() - min(created_at), max(created_at) - clock_timestamp())), 0)
           ::float8 AS oldest_seconds,
       count(*) FILTER (WHERE due AND published_at IS NULL) AS unpublished,
       coalesce(extract(epoch FROM clock_timestamp() - min(available_at) FILTER (WHERE due AND published_at IS NULL)), 0)
           ::float8 AS oldest_unpublished_seconds
FROM (
    SELECT created_at, available_at, published_at, available_at <= clock_timestamp() AS due
    FROM memory_jobs
    WHERE state IN ('pending', 'failed')
    UNION ALL
    SELECT created_at, NULL, NULL, false FROM memory_jobs WHERE state = 'processing'
) open_jobs

-- Since when the oldest job waits for a worker, and for the relay.
SELECT count(*) AS due,
       coalesce(extract(epoch FROM clock_timestamp() - min(available_at)), 0)::float8 AS oldest_seconds,
       count(*) FILTER (WHERE published_at IS NULL) AS unpublished,
       coalesce(extract(epoch FROM clock_timestamp() - min(available_at) FILTER (WHERE published_at IS NULL)), 0)::float8
           AS oldest_unpublished_seconds
FROM memory_jobs
WHERE state IN ('pending', 'failed') AND available_at <= clock_timestamp()

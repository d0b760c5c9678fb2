-- Jobs published a while ago that nobody has claimed; those published first come first, as they leave the stream first.
SELECT tenant_id, job_id, published_at
FROM memory_jobs
WHERE state IN ('pending', 'failed')
  AND published_at < clock_timestamp() - %(seconds)s::float8 * interval '1 second'
ORDER BY published_at
LIMIT %(limit)s

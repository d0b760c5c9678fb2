-- By the day a job was made, not that of its subject: an import of old messages then adds to one day. Without claims,
-- payloads and the text of errors.
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, tenant_id, job_id, job_type, state, priority, subject_id, user_id,
       day AS subject_day, attempts, error_class, correlation_id, created_at, available_at, finished_at
FROM memory_jobs
WHERE created_at >= current_setting('export.start_time')::timestamptz
  AND created_at < current_setting('export.end_time')::timestamptz
ORDER BY created_at, tenant_id, job_id

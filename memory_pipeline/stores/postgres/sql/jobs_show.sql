SELECT tenant_id, job_id, job_type, state, priority, subject_id, user_id, day, payload, attempts, claimed_alone,
       available_at, published_at, claimed_by, lease_until, error_class, error_text, correlation_id, created_at, finished_at
FROM memory_jobs
WHERE job_id = %(job_id)s

-- Newest first, before the job %%(before)s of the page before.
SELECT tenant_id, job_id, job_type, state, priority, subject_id, user_id, day, payload, attempts, claimed_alone,
       available_at, published_at, claimed_by, lease_until, error_class, error_text, correlation_id, created_at, finished_at
FROM memory_jobs
WHERE (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
  AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
  AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
  AND (%(before)s::uuid IS NULL OR job_id < %(before)s)
ORDER BY job_id DESC
LIMIT %(limit)s

-- Dead jobs of memories that are deleted: there is nothing left to retry, and what they failed of may quote a message.
-- They are written anew as completed, which memory_app may (it may not update jobs); by nobody, so no worker counts them.
WITH gone AS (
    DELETE FROM memory_jobs
    WHERE tenant_id = %(tenant_id)s AND subject_id = ANY (%(memory_ids)s::uuid[])
      AND state = 'dead' AND job_type = ANY (%(job_types)s::text[])
    RETURNING *
)
INSERT INTO memory_jobs (tenant_id, job_id, job_type, state, priority, subject_id, user_id, day, payload, attempts,
                         claimed_alone, available_at, published_at, error_class, correlation_id, created_at, finished_at)
SELECT tenant_id, job_id, job_type, 'completed', priority, subject_id, user_id, day, payload, attempts, claimed_alone,
       available_at, published_at, error_class, correlation_id, created_at, clock_timestamp()
FROM gone

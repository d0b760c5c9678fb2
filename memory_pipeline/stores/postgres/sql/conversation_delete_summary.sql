-- One memory; the index is to let go of it, by a job.
WITH gone AS (
    DELETE FROM memories
    WHERE tenant_id = %(tenant_id)s AND memory_id = %(memory_id)s
    RETURNING memory_id, user_id, day
)
INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, correlation_id)
SELECT %(tenant_id)s, 'index', memory_id, user_id, day, %(correlation_id)s
FROM gone
RETURNING subject_id

-- The episodes of a conversation; vectors go with them. The index is to let go of them, by jobs.
WITH gone AS (
    DELETE FROM memories
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s AND kind = 'episode'
      AND user_id IN (SELECT user_id FROM messages
                      WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s)
    RETURNING memory_id, user_id, day
)
INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, correlation_id)
SELECT %(tenant_id)s, 'index', memory_id, user_id, day, %(correlation_id)s
FROM gone
RETURNING subject_id

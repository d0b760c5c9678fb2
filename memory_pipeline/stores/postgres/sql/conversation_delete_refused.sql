-- Buffered writes that were refused hold what was said: what they hold of this conversation goes. They are written anew with
-- what is left, which memory_app may (it may not update jobs). One that a worker has in its hands is being written.
WITH holding AS MATERIALIZED (
    SELECT job_id, payload FROM memory_jobs
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND job_type = 'replay_write' AND state = 'dead'
    UNION ALL
    SELECT job_id, payload FROM memory_jobs
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND job_type = 'replay_write'
      AND state IN ('pending', 'failed')
), gone AS (
    DELETE FROM memory_jobs
    WHERE tenant_id = %(tenant_id)s AND state IN ('pending', 'failed', 'dead')
      AND job_id IN (SELECT job_id FROM holding
                     WHERE payload -> 'messages' @> jsonb_build_array(jsonb_build_object(
                         'source', %(source)s::text, 'source_conversation_id', %(source_conversation_id)s::text)))
    RETURNING *
), rest AS (
    SELECT g.*, (SELECT jsonb_agg(m.message ORDER BY m.place)
                 FROM jsonb_array_elements(g.payload -> 'messages') WITH ORDINALITY AS m (message, place)
                 WHERE (m.message ->> 'source', m.message ->> 'source_conversation_id')
                       IS DISTINCT FROM (%(source)s::text, %(source_conversation_id)s::text)) AS messages
    FROM gone g
)
INSERT INTO memory_jobs (tenant_id, job_id, job_type, state, priority, subject_id, user_id, day, payload, attempts,
                         claimed_alone, available_at, published_at, error_class, error_text, correlation_id, created_at,
                         finished_at)
SELECT tenant_id, job_id, job_type, state, priority, subject_id, user_id, day,
       jsonb_set(payload, '{messages}', messages), attempts, claimed_alone, available_at, published_at, error_class,
       error_text, correlation_id, created_at, finished_at
FROM rest
WHERE messages IS NOT NULL

-- What was found in a conversation, its episodes apart; vectors and edges go with it. The facts that a deleted one had ended
-- are to be ordered anew, and the index is to let go: by jobs.
WITH speaker AS MATERIALIZED (
    SELECT DISTINCT user_id
    FROM messages
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
), gone AS (
    DELETE FROM memories
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s AND kind <> 'episode'
      AND user_id IN (SELECT user_id FROM speaker)
    RETURNING memory_id, user_id, day
), ended_by_gone AS (
    SELECT memory_id, user_id, day
    FROM memories
    WHERE tenant_id = %(tenant_id)s AND user_id IN (SELECT user_id FROM speaker) AND kind = 'fact'
      AND conversation_id IS DISTINCT FROM %(conversation_id)s AND superseded_by IN (SELECT memory_id FROM gone)
), new_jobs AS (
    INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, correlation_id)
    SELECT %(tenant_id)s, 'detect_relations', memory_id, user_id, day, %(correlation_id)s FROM ended_by_gone
    UNION ALL
    SELECT %(tenant_id)s, 'index', memory_id, user_id, day, %(correlation_id)s FROM gone
)
SELECT memory_id FROM gone

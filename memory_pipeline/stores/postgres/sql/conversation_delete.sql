-- The messages of a conversation, and what was derived from them: episodes, facts, and summaries that rest on
-- one of them, which the pipeline makes anew from what is left. Vectors and edges go with their memories. The facts that a
-- deleted one had ended are to be ordered anew, and the index is to let go: by jobs. Buffered writes to it that were refused
-- hold what was said, and go too.
WITH doomed_messages AS MATERIALIZED (
    SELECT message_id, user_id, (sent_at AT TIME ZONE 'UTC')::date AS day
    FROM messages
    WHERE tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
), doomed_memories AS MATERIALIZED (
    SELECT memory_id
    FROM memories
    WHERE tenant_id = %(tenant_id)s AND user_id IN (SELECT user_id FROM doomed_messages)
      AND (conversation_id = %(conversation_id)s
           OR source_message_ids && (SELECT coalesce(array_agg(message_id), '{}') FROM doomed_messages))
), ended_by_doomed AS MATERIALIZED (
    SELECT memory_id, user_id, day
    FROM memories
    WHERE tenant_id = %(tenant_id)s AND user_id IN (SELECT user_id FROM doomed_messages) AND kind = 'fact'
      AND superseded_by IN (SELECT memory_id FROM doomed_memories)
      AND memory_id NOT IN (SELECT memory_id FROM doomed_memories)
), gone_memories AS (
    DELETE FROM memories
    WHERE tenant_id = %(tenant_id)s AND memory_id IN (SELECT memory_id FROM doomed_memories)
    RETURNING memory_id
), gone_messages AS (
    DELETE FROM messages
    WHERE %(with_messages)s AND tenant_id = %(tenant_id)s AND conversation_id = %(conversation_id)s
    RETURNING message_id
), new_jobs AS (
    INSERT INTO memory_jobs (tenant_id, job_type, subject_id, user_id, day, correlation_id)
    SELECT %(tenant_id)s, 'detect_relations', memory_id, user_id, day, %(correlation_id)s FROM ended_by_doomed
    UNION ALL
    SELECT %(tenant_id)s, 'index', memory_id, %(user_id)s, (SELECT min(day) FROM doomed_messages), %(correlation_id)s
    FROM doomed_memories
), gone_writes AS (
    DELETE FROM memory_jobs
    WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND job_type = 'replay_write' AND state = 'dead'
      AND payload -> 'messages' @> jsonb_build_array(jsonb_build_object(
          'source_conversation_id', %(source_conversation_id)s::text))
)
SELECT (SELECT count(*) FROM gone_messages) AS messages, (SELECT count(*) FROM gone_memories) AS memories

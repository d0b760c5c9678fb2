-- What is missing or dangling within Postgres itself, tenant by tenant, the first few of each kind with a count of all.
WITH gaps AS (
    SELECT s.tenant_id, 'message_without_episode' AS problem, s.message_id AS subject_id
    FROM messages s
    WHERE s.role IN ('user', 'assistant')
      AND NOT EXISTS (
          SELECT FROM memories m
          WHERE m.tenant_id = s.tenant_id AND m.kind = 'episode' AND m.day = (s.sent_at AT TIME ZONE 'UTC')::date
            AND m.source_message_ids[1] = s.message_id)
    UNION ALL
    SELECT DISTINCT m.tenant_id, 'memory_without_source', m.memory_id
    FROM memories m
    CROSS JOIN unnest(m.source_message_ids) AS source (message_id)
    WHERE m.status <> 'deleted'
      AND NOT EXISTS (SELECT FROM messages s WHERE s.tenant_id = m.tenant_id AND s.message_id = source.message_id)
    UNION ALL
    SELECT m.tenant_id, 'memory_without_vector', m.memory_id
    FROM memories m
    WHERE m.status IN ('active', 'superseded')
      AND NOT coalesce((SELECT count(*) = max(e.chunks)
                        FROM memory_embeddings e
                        WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
                          AND e.content_hash = m.content_hash), false)
    UNION ALL
    SELECT m.tenant_id, 'memory_content_altered', m.memory_id
    FROM memories m
    WHERE m.content_hash <> sha256(convert_to(m.content, 'UTF8'))
    UNION ALL
    SELECT s.tenant_id, 'message_content_altered', s.message_id
    FROM messages s
    WHERE s.content_hash <> message_hash(s.role, s.speaker, s.content)
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, problem ORDER BY subject_id) AS place,
           count(*) OVER (PARTITION BY tenant_id, problem) AS total
    FROM gaps
)
SELECT tenant_id, problem, subject_id, total
FROM numbered
WHERE place <= %(limit)s
ORDER BY tenant_id, problem, subject_id

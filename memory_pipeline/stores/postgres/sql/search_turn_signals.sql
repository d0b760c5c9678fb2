-- What speaks for each of the given turns beside its own words: how near the turns around it are to the query, who
-- spoke, whether it follows a question. Windows never leave the session (conversation and UTC day). The vector
-- of a window is the mean of its turns' vectors; a long turn stands there with its chunk that is nearest to the query.
WITH turns AS (
    SELECT g.message_id, g.memory_id, m.conversation_id, m.sent_at, m.position, (m.sent_at AT TIME ZONE 'UTC')::date AS day,
           coalesce(m.speaker, CASE m.role WHEN 'user' THEN u.display_name ELSE initcap(m.role) END) AS speaker,
           m.content ~ '\?\s*$' AS asks, char_length(m.content) AS characters, nearest.embedding
    FROM unnest(%(message_ids)s::uuid[], %(memory_ids)s::uuid[]) AS g (message_id, memory_id)
    JOIN messages m ON m.tenant_id = %(tenant_id)s AND m.message_id = g.message_id
    JOIN memories e ON e.tenant_id = %(tenant_id)s AND e.memory_id = g.memory_id AND e.user_id = %(user_id)s
        AND e.status NOT IN ('deleted', 'superseded') AND (%(project)s::text IS NULL OR e.project = %(project)s)
    JOIN users u ON u.tenant_id = %(tenant_id)s AND u.user_id = m.user_id
    LEFT JOIN LATERAL (
        SELECT v.embedding
        FROM memory_embeddings v
        WHERE %(vector)s::vector IS NOT NULL AND v.tenant_id = %(tenant_id)s AND v.memory_id = g.memory_id
          AND v.model = %(model)s AND v.content_hash = e.content_hash
        ORDER BY v.embedding <=> %(vector)s::vector, v.chunk
        LIMIT 1
    ) nearest ON true
)
SELECT memory_id, message_id, conversation_id, day, speaker, characters,
       (1 - (sum(embedding) OVER around <=> %(vector)s::vector))::float8 AS window_similarity,
       (1 - (sum(embedding) OVER before <=> %(vector)s::vector))::float8 AS lead_in_similarity,
       CASE WHEN lag(asks) OVER session THEN lag(memory_id) OVER session END AS answered_id
FROM turns
WINDOW session AS (PARTITION BY conversation_id, day ORDER BY sent_at, position, message_id),
       around AS (session ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING),
       before AS (session ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
ORDER BY memory_id

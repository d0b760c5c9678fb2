-- How far each of these memories, and each fact found in one of them, has come: one row each, under the memory named.
-- Those that do not exist (in that tenant) are left out. (On FILTER: due_embeddings; on OFFSET 0: index_due.)
WITH named AS MATERIALIZED (
    SELECT m.*
    FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
    CROSS JOIN LATERAL (
        SELECT m.tenant_id, m.memory_id, m.kind, m.status, m.version, m.content_hash, m.source_message_ids, m.enricher,
               m.failure_class, m.failure_text
        FROM memories m
        WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id
        OFFSET 0
    ) m
), member AS (
    SELECT memory_id AS named_id, n.*
    FROM named n
    UNION ALL
    SELECT e.memory_id, f.*
    FROM named e
    CROSS JOIN LATERAL (
        SELECT f.tenant_id, f.memory_id, f.kind, f.status, f.version, f.content_hash, f.source_message_ids, f.enricher,
               f.failure_class, f.failure_text
        FROM memories f
        WHERE f.kind = 'fact' AND f.tenant_id = e.tenant_id AND f.source_message_ids[1] = e.source_message_ids[1]
        OFFSET 0
    ) f
    WHERE e.kind = 'episode'
)
SELECT m.tenant_id, m.named_id, m.memory_id, m.status, m.failure_class, m.failure_text,
       m.kind = 'episode' AND m.status IN ('pending_enrichment', 'active', 'failed')
           AND m.enricher IS DISTINCT FROM %(enricher)s AS unread,
       m.status IN ('active', 'superseded') AND NOT vectors.complete AS unembedded,
       m.status IN ('active', 'superseded') AND NOT vectors.indexed AS unindexed
FROM member m
LEFT JOIN LATERAL (
    SELECT * FROM index_generations g WHERE g.tenant_id = m.tenant_id AND g.model = %(model)s AND g.state = 'live' OFFSET 0
) live ON true
CROSS JOIN LATERAL (
    SELECT coalesce(count(*) FILTER (WHERE e.content_hash = m.content_hash)
                    = max(e.chunks) FILTER (WHERE e.content_hash = m.content_hash), false) AS complete,
           coalesce(bool_and((i.version, i.content_hash) IS NOT DISTINCT FROM (m.version, m.content_hash))
                        FILTER (WHERE e.content_hash = m.content_hash), false) AS indexed
    FROM memory_embeddings e
    LEFT JOIN index_entries i ON i.tenant_id = e.tenant_id AND i.generation_id = live.generation_id
        AND i.memory_id = e.memory_id AND i.chunk = e.chunk
    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
    OFFSET 0
) vectors
ORDER BY m.tenant_id, m.named_id, m.memory_id <> m.named_id, m.memory_id

-- Of the tenants of these memories, those that have an index under this model, or vectors of these to begin one with.
SELECT DISTINCT n.tenant_id
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
LEFT JOIN LATERAL (
    SELECT * FROM index_generations g WHERE g.tenant_id = n.tenant_id AND g.model = %(model)s AND g.state = 'live' OFFSET 0
) live ON true
LEFT JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id OFFSET 0
) m ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM memory_embeddings e
    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s AND e.chunk = 0
    OFFSET 0
) e ON true
WHERE live.tenant_id IS NOT NULL OR m.status IN ('active', 'superseded') AND e.content_hash = m.content_hash
ORDER BY n.tenant_id

-- Of these memories, of tenants that the embedder may run for (or may not, where %(permitted)s is false), those whose
-- present content has no vector under this model, or not all of its chunks. (On FILTER: due_embeddings.)
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
CROSS JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id OFFSET 0
) m
LEFT JOIN permitted_plugins p ON p.tenant_id = m.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline'
WHERE m.status IN ('active', 'superseded') AND (p.plugin IS NOT NULL) = %(permitted)s
  AND NOT coalesce((SELECT count(*) FILTER (WHERE e.content_hash = m.content_hash)
                           = max(e.chunks) FILTER (WHERE e.content_hash = m.content_hash)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s), false)
ORDER BY m.day, m.tenant_id, m.memory_id

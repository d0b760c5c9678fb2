-- Of these (locked) memories, those whose present content still has no vector, or not all of its chunks, and whose tenant
-- permits the embedder.
SELECT m.tenant_id, m.memory_id, m.user_id, m.content, m.content_hash
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS locked (tenant_id, memory_id)
JOIN memories m USING (tenant_id, memory_id)
JOIN permitted_plugins p ON p.tenant_id = m.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline'
WHERE m.status IN ('active', 'superseded')
  AND NOT coalesce((SELECT count(*) = max(e.chunks)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
                      AND e.content_hash = m.content_hash), false)
ORDER BY m.day, m.tenant_id, m.memory_id

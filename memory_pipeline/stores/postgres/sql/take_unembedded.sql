-- Of these (locked) memories, those whose present content still has no vector, or not all of its chunks, and whose tenant
-- permits the embedder. (On FILTER: due_embeddings; on IS TRUE: due_episodes.)
SELECT m.tenant_id, m.memory_id, m.user_id, m.content, m.content_hash
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS locked (tenant_id, memory_id)
JOIN memories m USING (tenant_id, memory_id)
WHERE m.status IN ('active', 'superseded')
  AND (m.tenant_id IN (SELECT tenant_id FROM permitted_plugins WHERE plugin = %(plugin)s AND role = 'pipeline')) IS TRUE
  AND NOT coalesce((SELECT count(*) FILTER (WHERE e.content_hash = m.content_hash)
                           = max(e.chunks) FILTER (WHERE e.content_hash = m.content_hash)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s), false)
ORDER BY m.day, m.tenant_id, m.memory_id

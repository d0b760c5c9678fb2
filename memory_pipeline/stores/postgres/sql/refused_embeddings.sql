-- Which of these tenants, for whom the embedder may not run, have memories of these days, or summaries of the weeks around,
-- for it to embed. (On FILTER: due_embeddings.)
SELECT DISTINCT m.tenant_id
FROM memories m
WHERE m.tenant_id = ANY(%(barred)s::uuid[]) AND m.day >= %(week_start)s AND m.day < %(week_end)s
  AND (m.day >= %(start)s AND m.day < %(end)s OR m.kind = 'summary')
  AND m.status IN ('active', 'superseded')
  AND NOT coalesce((SELECT count(*) FILTER (WHERE e.content_hash = m.content_hash)
                           = max(e.chunks) FILTER (WHERE e.content_hash = m.content_hash)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s), false)

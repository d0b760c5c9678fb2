-- The next memories of these days, of tenants that the embedder may run for, whose present content has no vector under
-- this model, or not all of its chunks; and summaries of any day of the weeks around: a summary changes with each day of
-- its week, but belongs to one.
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM memories m
JOIN permitted_plugins p ON p.tenant_id = m.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline'
WHERE (m.day, m.tenant_id, m.memory_id) > (%(day)s, %(tenant_id)s, %(memory_id)s)
  AND m.day >= %(day)s AND m.day < %(week_end)s
  AND (m.day >= %(start)s AND m.day < %(end)s OR m.kind = 'summary')
  AND m.status IN ('active', 'superseded')
  AND NOT coalesce((SELECT count(*) = max(e.chunks)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s
                      AND e.content_hash = m.content_hash), false)
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s

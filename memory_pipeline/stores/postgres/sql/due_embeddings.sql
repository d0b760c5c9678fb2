-- The next memories of these days, of tenants that the embedder may run for, whose present content has no vector under
-- this model, or not all of its chunks; and summaries of any day of the weeks around: a summary changes with each day of
-- its week, but belongs to one. FILTER, not WHERE: the planner would look vectors up by their content, of which a tenant
-- may have thousands alike ("ok"), for each of them. (On IS TRUE: due_episodes.)
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM memories m
WHERE (m.day, m.tenant_id, m.memory_id) > (%(day)s, %(tenant_id)s, %(memory_id)s)
  AND m.day >= %(day)s AND m.day < %(week_end)s
  AND (m.day >= %(start)s AND m.day < %(end)s OR m.kind = 'summary')
  AND m.status IN ('active', 'superseded')
  AND (m.tenant_id IN (SELECT tenant_id FROM permitted_plugins WHERE plugin = %(plugin)s AND role = 'pipeline')) IS TRUE
  AND NOT coalesce((SELECT count(*) FILTER (WHERE e.content_hash = m.content_hash)
                           = max(e.chunks) FILTER (WHERE e.content_hash = m.content_hash)
                    FROM memory_embeddings e
                    WHERE e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id AND e.model = %(model)s), false)
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s

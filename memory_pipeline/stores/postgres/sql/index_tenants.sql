-- Tenants that have an index under this model, or vectors of these days to begin one with.
SELECT t.tenant_id
FROM tenants t
WHERE EXISTS (SELECT FROM index_generations g
              WHERE g.tenant_id = t.tenant_id AND g.model = %(model)s AND g.state = 'live')
   OR EXISTS (SELECT FROM memories m
              JOIN memory_embeddings e ON e.tenant_id = m.tenant_id AND e.memory_id = m.memory_id
              WHERE m.tenant_id = t.tenant_id AND m.day >= %(start)s AND m.day < %(end)s
                AND m.status IN ('active', 'superseded')
                AND e.model = %(model)s AND e.content_hash = m.content_hash)
ORDER BY t.tenant_id

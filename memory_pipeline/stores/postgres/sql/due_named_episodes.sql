-- Of these memories, the episodes that this version of the enricher has not read, of tenants that it may run for (or may
-- not, where %(permitted)s is false).
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM unnest(%(tenant_ids)s::uuid[], %(memory_ids)s::uuid[]) AS n (tenant_id, memory_id)
CROSS JOIN LATERAL (
    SELECT * FROM memories m WHERE m.tenant_id = n.tenant_id AND m.memory_id = n.memory_id OFFSET 0
) m
LEFT JOIN permitted_plugins p ON p.tenant_id = m.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline'
WHERE m.kind = 'episode' AND (p.plugin IS NOT NULL) = %(permitted)s
  AND (m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s)
ORDER BY m.day, m.tenant_id, m.memory_id

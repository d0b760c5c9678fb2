-- The next episodes, up to a day, that this version of the enricher has not read, of tenants that it may run for.
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM memories m
JOIN permitted_plugins p ON p.tenant_id = m.tenant_id AND p.plugin = %(plugin)s AND p.role = 'pipeline'
WHERE (m.day, m.tenant_id, m.memory_id) > (%(day)s, %(tenant_id)s, %(memory_id)s)
  AND m.day >= %(day)s AND m.day < %(end)s AND m.kind = 'episode'
  AND (m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s)
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s

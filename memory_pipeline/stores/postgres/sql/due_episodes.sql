-- The next episodes, up to a day, that this version of the enricher has not read, of tenants that it may run for. IS TRUE
-- keeps their choice a filter: as a join, it would have the planner go through all days tenant by tenant for every page.
SELECT m.day, m.tenant_id, m.memory_id, octet_length(m.content) AS bytes
FROM memories m
WHERE (m.day, m.tenant_id, m.memory_id) > (%(day)s, %(tenant_id)s, %(memory_id)s)
  AND m.day >= %(day)s AND m.day < %(end)s AND m.kind = 'episode'
  AND (m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s)
  AND (m.tenant_id IN (SELECT tenant_id FROM permitted_plugins WHERE plugin = %(plugin)s AND role = 'pipeline')) IS TRUE
ORDER BY m.day, m.tenant_id, m.memory_id
LIMIT %(limit)s

-- Which of these tenants, for whom the enricher may not run, have episodes of these days for it to read.
SELECT DISTINCT m.tenant_id
FROM memories m
WHERE m.tenant_id = ANY(%(barred)s::uuid[]) AND m.day >= %(start)s AND m.day < %(end)s AND m.kind = 'episode'
  AND (m.status = 'pending_enrichment' OR m.status = 'active' AND m.enricher IS DISTINCT FROM %(enricher)s)

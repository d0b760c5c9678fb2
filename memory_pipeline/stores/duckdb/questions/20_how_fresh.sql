-- Up to when does the file reach, and how much of what was said is still to be read?
--
-- An episode is `pending_enrichment` until an enricher has read it. Many of them mean that the pipeline is behind,
-- and that facts of the last days are missing.
SELECT t.slug AS tenant,
       max(m.day) AS last_day,
       max(m.created_at) AS last_received_at,
       count(*) FILTER (m.kind = 'episode') AS episodes,
       count(*) FILTER (m.kind = 'episode' AND m.status = 'pending_enrichment') AS waiting,
       count(*) FILTER (m.status = 'failed') AS failed
FROM tenants t
LEFT JOIN memories m USING (tenant_id)
GROUP BY t.slug
ORDER BY tenant

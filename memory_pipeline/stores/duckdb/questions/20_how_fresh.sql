-- Up to when does the file reach, and how much of what was said is still to be read?
--
-- An episode is `pending_enrichment` until an enricher has read it. Many of them mean that the pipeline is behind,
-- and that facts of the last days are missing. Counts come from a mart; when a message arrived, only `messages` says.
WITH counted AS (
    SELECT tenant_id, max(day) AS last_day,
           sum(memories) FILTER (kind = 'episode') AS episodes,
           sum(memories) FILTER (kind = 'episode' AND status = 'pending_enrichment') AS waiting,
           sum(memories) FILTER (status = 'failed') AS failed
    FROM mart_memory_growth
    GROUP BY tenant_id
), received AS (
    SELECT tenant_id, max(received_at) AS last_received_at
    FROM messages
    GROUP BY tenant_id
)
SELECT t.slug AS tenant, c.last_day, r.last_received_at,
       coalesce(c.episodes, 0)::BIGINT AS episodes,
       coalesce(c.waiting, 0)::BIGINT AS waiting,
       coalesce(c.failed, 0)::BIGINT AS failed
FROM tenants t
LEFT JOIN counted c USING (tenant_id)
LEFT JOIN received r USING (tenant_id)
ORDER BY tenant

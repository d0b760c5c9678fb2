-- How many memories of which kind and state each day brought, and how many there are up to then.
-- Key: day, tenant_id, kind, status
CREATE OR REPLACE TABLE mart_memory_growth AS
SELECT m.day, m.tenant_id, t.slug AS tenant, m.kind, m.status,
       count(*) AS memories,
       sum(count(*)) OVER (PARTITION BY m.tenant_id, m.kind, m.status ORDER BY m.day)::BIGINT AS memories_so_far,
       count(*) / sum(count(*)) OVER (PARTITION BY m.tenant_id, m.day) AS share_of_day
FROM memories m
JOIN tenants t USING (tenant_id)
GROUP BY m.day, m.tenant_id, t.slug, m.kind, m.status
ORDER BY m.day, m.tenant_id, m.kind, m.status;
COMMENT ON TABLE mart_memory_growth IS 'Growth and composition of memory: one row per tenant, UTC day, kind and status with memories.';
COMMENT ON COLUMN mart_memory_growth.day IS 'UTC day of the (first) source message.'; -- DATE from memories.day
COMMENT ON COLUMN mart_memory_growth.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from memories.tenant_id
COMMENT ON COLUMN mart_memory_growth.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_memory_growth.kind IS 'episode, fact, summary or profile.'; -- VARCHAR from memories.kind
COMMENT ON COLUMN mart_memory_growth.status IS 'pending_enrichment, active, superseded or failed.'; -- VARCHAR from memories.status
COMMENT ON COLUMN mart_memory_growth.memories IS 'Memories of that day.'; -- BIGINT from memories.memory_id
COMMENT ON COLUMN mart_memory_growth.memories_so_far IS 'Memories of that day and all before it.'; -- BIGINT from memories.memory_id
COMMENT ON COLUMN mart_memory_growth.share_of_day IS 'Part of the tenant''s memories of that day, 0 to 1.'; -- DOUBLE from memories.memory_id

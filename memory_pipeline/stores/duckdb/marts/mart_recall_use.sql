-- How recall was used and how well it answered, per tenant and UTC day.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id
CREATE OR REPLACE TABLE mart_recall_use AS
SELECT a.day, a.tenant_id, t.slug AS tenant,
       count(*) AS recalls,
       count(DISTINCT a.user_id) AS users,
       count(DISTINCT (a.user_id, a.query_hash)) AS questions,
       count(*) FILTER (a.memories > 0) AS answered,
       count(*) FILTER (a.memories > 0) / count(*) AS hit_rate,
       avg(a.memories) AS memories_per_answer,
       count(*) FILTER (a.degraded) AS degraded,
       count(*) FILTER (a.degraded) / count(*) AS degraded_share,
       count(*) FILTER (a.from_cache) AS cached,
       count(*) FILTER (a.from_cache) / count(*) AS cached_share,
       quantile_disc(a.milliseconds, 0.50) AS p50_milliseconds,
       quantile_disc(a.milliseconds, 0.95) AS p95_milliseconds
FROM memory_access a
JOIN tenants t USING (tenant_id)
WHERE a.what = 'recall'
GROUP BY a.day, a.tenant_id, t.slug
ORDER BY a.day, a.tenant_id;
COMMENT ON TABLE mart_recall_use IS 'How recall was used and how well it answered: one row per tenant and UTC day with recalls.';
COMMENT ON COLUMN mart_recall_use.day IS 'UTC day.'; -- DATE from memory_access.day
COMMENT ON COLUMN mart_recall_use.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from memory_access.tenant_id
COMMENT ON COLUMN mart_recall_use.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_recall_use.recalls IS 'Answers in all.'; -- BIGINT from memory_access.access_id
COMMENT ON COLUMN mart_recall_use.users IS 'Users whose memory was asked for.'; -- BIGINT from memory_access.user_id
COMMENT ON COLUMN mart_recall_use.questions IS 'Different questions; recalls - questions were asked again by the same user.'; -- BIGINT from memory_access.user_id, memory_access.query_hash
COMMENT ON COLUMN mart_recall_use.answered IS 'Answers with at least one memory.'; -- BIGINT from memory_access.memories
COMMENT ON COLUMN mart_recall_use.hit_rate IS 'answered / recalls, 0 to 1.'; -- DOUBLE from memory_access.memories
COMMENT ON COLUMN mart_recall_use.memories_per_answer IS 'Memories in an answer on average, answers without any included.'; -- DOUBLE from memory_access.memories
COMMENT ON COLUMN mart_recall_use.degraded IS 'Answers that had to do without something.'; -- BIGINT from memory_access.degraded
COMMENT ON COLUMN mart_recall_use.degraded_share IS 'degraded / recalls, 0 to 1.'; -- DOUBLE from memory_access.degraded
COMMENT ON COLUMN mart_recall_use.cached IS 'Answers that had been kept from an earlier question.'; -- BIGINT from memory_access.from_cache
COMMENT ON COLUMN mart_recall_use.cached_share IS 'cached / recalls, 0 to 1.'; -- DOUBLE from memory_access.from_cache
COMMENT ON COLUMN mart_recall_use.p50_milliseconds IS 'Half of the answers took no longer than this.'; -- DOUBLE from memory_access.milliseconds
COMMENT ON COLUMN mart_recall_use.p95_milliseconds IS '95 of 100 answers took no longer than this.'; -- DOUBLE from memory_access.milliseconds

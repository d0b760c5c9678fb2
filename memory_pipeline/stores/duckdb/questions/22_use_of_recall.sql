-- How often is memory recalled, and how often does it find something?
--
-- Shares may not be averaged over days, so they are made of the counts again. A degraded answer had to do without
-- something, such as the index.
SELECT t.slug AS tenant,
       coalesce(sum(r.recalls), 0)::BIGINT AS recalls,
       round(sum(r.answered) / sum(r.recalls), 3) AS hit_rate,
       round(sum(r.degraded) / sum(r.recalls), 3) AS degraded_share,
       round(sum(r.cached) / sum(r.recalls), 3) AS cached_share,
       max(r.p95_milliseconds) AS worst_day_p95_milliseconds
FROM tenants t
LEFT JOIN mart_recall_use r USING (tenant_id)
GROUP BY t.slug
ORDER BY recalls DESC, tenant

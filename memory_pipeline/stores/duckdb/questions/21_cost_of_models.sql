-- What do the models cost, and for whom?
--
-- Only calls of remote models cost anything: a tenant whose plugins are local has a line of zeros. Where
-- `rows_without_price` is not zero the cost is too low, by calls whose price is not known.
SELECT t.slug AS tenant, c.plugin, c.model,
       coalesce(sum(c.requests), 0)::BIGINT AS requests,
       coalesce(sum(c.tokens), 0)::BIGINT AS tokens,
       round(sum(c.cost_usd)::DOUBLE, 4) AS cost_usd,
       coalesce(sum(c.rows_without_price), 0)::BIGINT AS rows_without_price
FROM tenants t
LEFT JOIN mart_cost_daily c USING (tenant_id)
GROUP BY t.slug, c.plugin, c.model
ORDER BY cost_usd DESC NULLS LAST, tenant, c.plugin, c.model

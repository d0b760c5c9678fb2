-- What calls of models cost, per tenant, plugin, model and UTC day.
-- By day: what is said of a day is made of that day's rows alone.
-- Key: day, tenant_id, plugin, model
CREATE OR REPLACE TABLE mart_cost_daily AS
SELECT u.day, u.tenant_id, t.slug AS tenant, u.plugin, u.model,
       sum(u.requests)::BIGINT AS requests,
       sum(u.texts)::BIGINT AS texts,
       (coalesce(sum(u.prompt_tokens), 0) + sum(u.completion_tokens))::BIGINT AS tokens,
       sum(u.cost_usd)::DECIMAL(28,10) AS cost_usd,
       count(*) FILTER (u.cost_usd IS NULL) AS rows_without_price,
       count(*) FILTER (u.prompt_tokens IS NULL) AS rows_without_tokens
FROM llm_usage u
JOIN tenants t USING (tenant_id)
GROUP BY u.day, u.tenant_id, t.slug, u.plugin, u.model
ORDER BY u.day, u.tenant_id, u.plugin, u.model;
COMMENT ON TABLE mart_cost_daily IS 'What calls of models cost: one row per tenant, UTC day, plugin and model. Local models have none.';
COMMENT ON COLUMN mart_cost_daily.day IS 'UTC day.'; -- DATE from llm_usage.day
COMMENT ON COLUMN mart_cost_daily.tenant_id IS 'Tenant that owns the row; key of tenants.'; -- UUID from llm_usage.tenant_id
COMMENT ON COLUMN mart_cost_daily.tenant IS 'Slug of the tenant.'; -- VARCHAR from tenants.slug
COMMENT ON COLUMN mart_cost_daily.plugin IS 'Plugin that called the model.'; -- VARCHAR from llm_usage.plugin
COMMENT ON COLUMN mart_cost_daily.model IS 'Model as it was asked for.'; -- VARCHAR from llm_usage.model
COMMENT ON COLUMN mart_cost_daily.requests IS 'Requests that were answered; those that tenants share are split as tokens are.'; -- BIGINT from llm_usage.requests
COMMENT ON COLUMN mart_cost_daily.texts IS 'Texts sent.'; -- BIGINT from llm_usage.texts
COMMENT ON COLUMN mart_cost_daily.tokens IS 'Tokens sent and answered, as far as the endpoint counted them.'; -- BIGINT from llm_usage.prompt_tokens, llm_usage.completion_tokens
COMMENT ON COLUMN mart_cost_daily.cost_usd IS 'US dollars of the calls with a price; NULL where none has one.'; -- DECIMAL(28,10) from llm_usage.cost_usd
COMMENT ON COLUMN mart_cost_daily.rows_without_price IS 'Rows of llm_usage whose cost is unknown, so that cost_usd is too small by theirs.'; -- BIGINT from llm_usage.cost_usd
COMMENT ON COLUMN mart_cost_daily.rows_without_tokens IS 'Rows of llm_usage whose tokens the endpoint did not count.'; -- BIGINT from llm_usage.prompt_tokens

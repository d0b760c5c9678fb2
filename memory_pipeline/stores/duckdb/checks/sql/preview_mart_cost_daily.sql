SELECT * EXCLUDE (tenant_id) FROM mart_cost_daily ORDER BY day DESC, tenant, plugin, model LIMIT 10

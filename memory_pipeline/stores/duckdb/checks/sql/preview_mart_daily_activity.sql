SELECT * EXCLUDE (tenant_id) FROM mart_daily_activity ORDER BY day DESC, tenant LIMIT 10

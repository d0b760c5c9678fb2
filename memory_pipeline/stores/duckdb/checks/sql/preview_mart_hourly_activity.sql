SELECT * EXCLUDE (tenant_id) FROM mart_hourly_activity ORDER BY day DESC, tenant, hour LIMIT 10

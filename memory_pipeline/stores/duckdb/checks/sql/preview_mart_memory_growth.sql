SELECT * EXCLUDE (tenant_id) FROM mart_memory_growth ORDER BY day DESC, tenant, kind, status LIMIT 10

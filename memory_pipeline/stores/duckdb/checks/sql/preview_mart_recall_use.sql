SELECT * EXCLUDE (tenant_id) FROM mart_recall_use ORDER BY day DESC, tenant LIMIT 10

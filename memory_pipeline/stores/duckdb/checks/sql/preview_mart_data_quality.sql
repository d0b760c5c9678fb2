SELECT * EXCLUDE (tenant_id) FROM mart_data_quality ORDER BY day DESC, findings DESC, tenant, store, problem LIMIT 10

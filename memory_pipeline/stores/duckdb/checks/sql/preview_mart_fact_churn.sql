SELECT * EXCLUDE (tenant_id) FROM mart_fact_churn ORDER BY day DESC, tenant LIMIT 10

SELECT * EXCLUDE (tenant_id) FROM mart_retention ORDER BY cohort_week DESC, tenant, weeks_later LIMIT 10

SELECT * EXCLUDE (tenant_id) FROM mart_pipeline_response ORDER BY day DESC, tenant, job_type LIMIT 10

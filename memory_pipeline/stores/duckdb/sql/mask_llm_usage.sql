INSERT INTO llm_usage BY NAME
SELECT * REPLACE (
           pseudonym(usage_id) AS usage_id,
           pseudonym(correlation_id) AS correlation_id,
           to_day(used_at) AS used_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, usage_id

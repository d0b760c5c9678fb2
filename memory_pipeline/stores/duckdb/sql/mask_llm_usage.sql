INSERT INTO llm_usage BY NAME
SELECT * REPLACE (
           pseudonym(usage_id) AS usage_id,
           pseudonym(correlation_id) AS correlation_id
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID

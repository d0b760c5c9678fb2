INSERT INTO users BY NAME
SELECT *
FROM read_parquet($files, hive_partitioning = false)
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID

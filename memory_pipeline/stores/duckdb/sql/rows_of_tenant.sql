SELECT count(*)
FROM read_parquet($files, hive_partitioning = false)
WHERE tenant_id = $tenant::UUID

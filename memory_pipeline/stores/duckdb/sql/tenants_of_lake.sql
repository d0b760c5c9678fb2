SELECT slug, tenant_id FROM read_parquet($files, hive_partitioning = false)

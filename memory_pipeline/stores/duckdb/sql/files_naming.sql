SELECT DISTINCT filename
FROM read_parquet($files, hive_partitioning = false, filename = true)
WHERE user_id = $user_id
ORDER BY filename

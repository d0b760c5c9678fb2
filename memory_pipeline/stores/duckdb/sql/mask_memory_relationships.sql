INSERT INTO memory_relationships BY NAME
SELECT * REPLACE (
           pseudonym(from_id) AS from_id,
           pseudonym(to_id) AS to_id,
           to_day(created_at) AS created_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, from_id, to_id, kind

INSERT INTO users BY NAME
SELECT * REPLACE (
           pseudonym(user_id) AS user_id,
           keyed_hash(email) AS email,
           '' AS display_name,
           '{}' AS preferences,
           to_day(created_at) AS created_at
       )
FROM read_parquet($files, hive_partitioning = false)
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY tenant_id, user_id

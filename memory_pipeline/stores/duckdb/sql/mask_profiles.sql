INSERT INTO profiles BY NAME
SELECT * REPLACE (
           pseudonym(profile_id) AS profile_id,
           pseudonym(user_id) AS user_id,
           '' AS content,
           '{}' AS raw_data,
           to_day(created_at) AS created_at,
           to_day(updated_at) AS updated_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, user_id, profile_id

INSERT INTO memory_access BY NAME
SELECT * REPLACE (
           pseudonym(access_id) AS access_id,
           pseudonym(user_id) AS user_id,
           pseudonym(correlation_id) AS correlation_id,
           keyed_digest(query_hash) AS query_hash,
           list_transform(memory_ids, lambda id: pseudonym(id)) AS memory_ids,
           to_day(accessed_at) AS accessed_at
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
ORDER BY day, tenant_id, access_id

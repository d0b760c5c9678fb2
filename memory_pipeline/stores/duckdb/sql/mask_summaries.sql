INSERT INTO summaries BY NAME
SELECT * REPLACE (
           pseudonym(summary_id) AS summary_id,
           pseudonym(user_id) AS user_id,
           '' AS content,
           '{}' AS raw_data
       )
FROM read_parquet($files, hive_partitioning = true, hive_types = {'day': DATE})
WHERE $tenant::UUID IS NULL OR tenant_id = $tenant::UUID
